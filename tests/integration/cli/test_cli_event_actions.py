"""`waylink events retry|replay` and `waylink routes backfill`, for people and programs, without any process."""

import json
from contextlib import closing

import pytest

from app.clock import utc_now
from app.db.engine import connect
from app.ids import EVENT, new_id, show
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.cli.test_status import an_event
from tests.ports import free_port

CONFIG = """
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"
[[routes]]
name = "contacts"
team = "crm"
destination = "jobs"
job = "crm.import_contacts"
pattern = '{"type": ["connection.created"]}'
"""


@pytest.fixture
def waylink(tmp_path):
    """A migrated installation without processes, with a route."""
    (tmp_path / "waylink.toml").write_text(CONFIG)
    broker = f"redis://127.0.0.1:{free_port()}/0"
    command = Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "k", "WAYLINK_BROKER_URL": broker})
    assert command.inside("migrate").returncode == 0
    return command


@pytest.fixture
def events(waylink):
    """Makes events; their ids as shown."""

    def make(number=1, **changes):
        judged = {"type": "connection.created", "document": {"type": "connection.created"}, "route_set": 1}
        facts = {"state": "processed", **judged, **changes}
        made = [an_event(utc_now(), **facts) for _ in range(number)]
        with closing(connect(waylink.database_url)) as database, database.write() as session:
            session.add_all(made)
            session.flush()
            return [show(EVENT, event.id) for event in made]

    return make


def failed(events, number=1, failure="error"):
    return events(number, state="failed", failure=failure, document=None, route_set=None)


def test_failed_events_are_counted_first_and_taken_up_on_consent(waylink, events, monkeypatch):
    ids = failed(events, 2)
    [other] = failed(events, failure="not_confirmed")
    shown = waylink.json("events", "retry", "--failure", "error", "--dry-run")
    assert shown == {"dry_run": True, "count": 2, "more": False}
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert waylink.inside("events", "retry", "--failure", "error").returncode == 1
    done = waylink.json("events", "retry", "--failure", "error", "--yes")
    assert (done["retried"], done["left_alone"]) == (2, 0)
    states = [waylink.json("events", "show", id_)["state"] for id_ in (*ids, other)]
    assert states == ["received", "received", "failed"]
    assert waylink.json("events", "retry", *ids)["retried"] == 0  # twice is once


def test_a_processed_event_is_not_retried_and_that_is_a_no(waylink, events):
    [event] = events()
    assert waylink.inside("events", "retry", event).returncode == 1
    missing = show(EVENT, new_id())
    assert missing in one_line_error(waylink.inside("events", "retry", missing), 1)
    assert waylink.inside("events", "retry").returncode == 2


def test_a_replay_shows_each_route_that_matches_and_the_result_of_its_job(waylink, events):
    [event] = events()
    [step] = waylink.json("events", "replay", event, "--dry-run")["steps"]
    assert (step["route"], step["outcome"], step["job_id"]) == ("contacts", "new", None)
    assert waylink.json("jobs") == []
    [step] = waylink.json("events", "replay", event)["steps"]
    [job] = waylink.json("jobs")
    assert (step["job_id"], job["event_id"]) == (job["id"], event)
    assert "left_alone" in waylink.inside("events", "replay", event).stdout
    assert waylink.inside("events", "replay", event, "--route", "crm/nothing").returncode == 1


def test_a_backfill_says_how_many_it_will_be_and_makes_them_once(waylink, events):
    ids = events(3)
    shown = waylink.json("routes", "backfill", "crm/contacts", "--since", "1d", "--dry-run")
    assert (shown["matched"], shown["to_make"], shown["complete"]) == (3, 3, True)
    done = waylink.inside("routes", "backfill", "crm/contacts", "--since", "1d", "--limit", "2", "--yes", "--json")
    assert json.loads(done.stdout)["made"] == 2
    assert "3 of 3 events match" in done.stderr or "2 of 2 events match" in done.stderr
    assert waylink.json("routes", "backfill", "crm/contacts", "--since", "1d", "--yes")["made"] == 1
    jobs = waylink.json("jobs")
    assert sorted(job["event_id"] for job in jobs) == sorted(ids)
    assert {job["backfill"] for job in jobs} == {True}
    assert "nothing" in one_line_error(waylink.inside("routes", "backfill", "crm/nothing", "--since", "1d"), 1)
    assert waylink.inside("routes", "backfill", "crm/contacts").returncode == 2


def test_all_events_of_a_time_are_replayed_by_a_run(waylink, events):
    ids = events(3)
    events(1, type="connection.deleted", document={"type": "connection.deleted"})
    options = ("--since", "1d", "--type", "connection.created")
    assert waylink.json("events", "replay", *options, "--dry-run") == {"dry_run": True, "count": 3, "more": False}
    answer = waylink.json("events", "replay", *options, "--yes", "--reason", "a new route")
    assert (answer["replayed"], answer["left_alone"], answer["stopped"]) == (3, 0, False)
    assert sorted(job["event_id"] for job in waylink.json("jobs")) == ids
    run = waylink.json("bulk-runs", "show", answer["run"])
    assert (run["act"], run["state"], run["reason"]) == ("events.replay", "done", "a new route")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("evt_0123456789abcdef0123456789abcdef", "--since", "1d"),
        ("evt_0123456789abcdef0123456789abcdef", "--type", "connection.created"),
        ("--since", "1d", "--route", "crm/contacts"),
        ("--type", "connection.created"),
    ],
)
def test_a_replay_of_many_needs_a_time_and_no_event(waylink, arguments):
    assert waylink.inside("events", "replay", *arguments).returncode == 2
