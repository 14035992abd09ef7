"""`waylink jobs retry|cancel|redeliver`: how many it will be comes first, and without consent nothing is changed."""

import json
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.clock import utc_now
from app.db.engine import connect
from app.db.models import Audit
from app.db.read import backlog
from app.ids import JOB, new_id, show
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.cli.test_status import a_job, add, an_event
from tests.ports import free_port

HOUR = timedelta(hours=1)


@pytest.fixture
def waylink(tmp_path):
    """A migrated installation without processes."""
    command = Command(
        tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "k", "WAYLINK_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    )
    assert command.inside("migrate").returncode == 0
    return command


@pytest.fixture
def jobs(waylink):
    """Makes jobs of these states; their ids as shown."""

    def make(*states, **changes):
        now = utc_now()
        with closing(connect(waylink.database_url)) as database:
            event = an_event(now, state="processed", type="connection.created")
            made = [
                a_job(now, event.id, state=state, finished_at=now - HOUR, fault="team", **changes) for state in states
            ]
            add(database, event, *made)
            return [show(JOB, job.id) for job in made]

    return make


def states(waylink, ids):
    return [waylink.json("jobs", "show", id_)["state"] for id_ in ids]


def audited(waylink):
    with closing(connect(waylink.database_url)) as database, database.read() as session:
        return [
            (entry.action, entry.outcome, entry.detail) for entry in session.scalars(select(Audit).order_by(Audit.id))
        ]


def test_a_dry_run_counts_and_changes_nothing(waylink, jobs):
    ids = jobs("discarded", "discarded", "completed")
    done = waylink.inside("jobs", "retry", "--all", "--dry-run", "--json")
    assert done.returncode == 0
    group = {"team": "crm", "destination": "jobs", "state": "discarded", "fault": "team", "count": 2}
    assert json.loads(done.stdout) == {"dry_run": True, "count": 2, "more": False, "groups": [group]}
    assert states(waylink, ids) == ["discarded", "discarded", "completed"]
    assert audited(waylink) == []


def test_without_consent_nothing_is_changed(waylink, jobs, monkeypatch):
    ids = jobs("discarded")
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    done = waylink.inside("jobs", "retry", "--team", "crm")
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 discarded for crm/jobs, fault: team" in done.stderr
    assert "nothing was changed" in done.stderr
    assert states(waylink, ids) == ["discarded"]


def test_all_that_are_meant_are_retried_and_nothing_else(waylink, jobs):
    ids = jobs("discarded", "discarded")
    [other] = jobs("discarded", name="crm.other")
    answer = waylink.json("jobs", "retry", "--name", "crm.x", "--ended-since", "2h", "--yes")
    run = answer.pop("run")
    assert answer == {"retried": 2, "left_alone": 0, "more": False, "stopped": False}
    assert waylink.json("bulk-runs", "show", run)["state"] == "done"
    assert states(waylink, [*ids, other]) == ["available", "available", "discarded"]
    [(action, outcome, detail)] = audited(waylink)
    assert (action, outcome, detail["name"], detail["count"]) == ("job.retried", "done", "crm.x", 2)
    assert waylink.json("jobs", "retry", "--name", "crm.x", "--yes")["retried"] == 0


def test_jobs_are_named_by_their_ids_and_each_with_its_result(waylink, jobs):
    ids = jobs("discarded", "available", "running")
    rows = waylink.json("jobs", "retry", *ids)
    assert [(row["id"], row["result"]) for row in rows] == [
        (ids[0], "retried"),
        *((id_, "left alone") for id_ in ids[1:]),
    ]
    done = waylink.inside("jobs", "cancel", *ids)
    assert done.returncode == 1  # one is running
    assert "cannot be called back" in done.stdout
    assert states(waylink, ids) == ["cancelled", "cancelled", "running"]
    assert waylink.inside("jobs", "cancel", *ids[:2]).returncode == 0


@pytest.mark.parametrize("act", ["retry", "cancel", "redeliver"])
@pytest.mark.parametrize(
    "wrong",
    [
        ("--team", "crn", "there is no team 'crn'"),
        ("--destination", "crm/jobbs", "has no destination 'jobbs'"),
        ("--route", "crm/nosuch", "has no route 'nosuch'"),
    ],
)
def test_a_name_that_was_never_defined_is_bad_input_and_not_0_jobs(waylink, jobs, act, wrong):
    option, name, said = wrong
    jobs("discarded")
    place = ["--destination", "crn/jobs" if option == "--team" else "crm/jobs", "--since", "1d"]
    more = [] if act != "redeliver" else place[2:] if option == "--destination" else place
    done = waylink.inside("jobs", act, option, name, *more, "--yes")
    assert said in one_line_error(done, 2)


def test_a_job_that_does_not_exist_stops_the_action_before_it_begins(waylink, jobs):
    [there] = jobs("discarded")
    missing = show(JOB, new_id())
    assert missing in one_line_error(waylink.inside("jobs", "retry", there, missing), 1)
    assert states(waylink, [there]) == ["discarded"]


def test_what_a_broker_lost_is_delivered_again_with_the_same_ids(waylink, jobs):
    ids = jobs("completed", "completed", "discarded")
    done = waylink.inside("jobs", "redeliver", "--destination", "crm/jobs", "--since", "2h", "--yes", "--json")
    assert json.loads(done.stdout)["redelivered"] == 2
    assert "handed over until 20" in done.stderr  # what to go on with
    assert states(waylink, ids) == ["available", "available", "discarded"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry",),
        ("retry", "job_0123456789abcdef0123456789abcdef", "--team", "crm"),
        ("retry", "--state", "completed"),
        ("retry", "--destination", "jobs"),
        ("retry", "--created-since", "yesterday"),
        ("retry", "--team", "sales", "--destination", "crm/jobs"),
        ("cancel", "no-id"),
        ("redeliver", "--destination", "crm/jobs"),
        ("redeliver", "--since", "2h"),
    ],
)
def test_wrong_use_is_reported_and_exits_with_2(waylink, arguments):
    done = waylink.inside("jobs", *arguments)
    assert done.returncode == 2
    assert "rror: " in done.stderr


def test_the_list_can_be_asked_for_dead_letters_by_fault(waylink, jobs):
    [theirs] = jobs("discarded")
    assert [job["id"] for job in waylink.json("jobs", "--state", "discarded", "--fault", "team")] == [theirs]
    assert waylink.json("jobs", "--fault", "ours") == []
    assert [job["id"] for job in waylink.json("jobs", "--destination", "crm/jobs", "--name", "crm.x")] == [theirs]


def test_queues_and_the_summary_are_there_for_people_and_programs(waylink, jobs):
    jobs("available", "discarded")
    [row] = waylink.json("queues")
    assert (row["team"], row["available"], row["discarded_by_team"]) == ("crm", 1, 1)
    assert "crm" in waylink.inside("queues").stdout  # the internal broker is away, and says so aside
    rows = waylink.json("jobs", "summary", "--team", "crm")
    assert [(row["state"], row["count"]) for row in rows] == [("available", 1), ("discarded", 1)]
    assert waylink.json("jobs", "summary", "--team", "nobody") == []


def test_counts_are_bounded_and_say_so(waylink, jobs, monkeypatch):
    monkeypatch.setattr(backlog, "AT_MOST", 2)
    monkeypatch.setattr(backlog, "LEAST", 2)
    jobs("available", "available", "available", "discarded")
    available, discarded = waylink.json("jobs", "summary")
    assert (available["count"], available["capped"], discarded["capped"]) == (3, True, False)
