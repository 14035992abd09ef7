"""Acting on jobs by REST: a dry run first, never more than it showed, and a team its own only."""

from datetime import timedelta

import pytest

from app.brokers.celery_broker import IO_QUEUE, Broker
from app.clock import utc_now
from app.db import bulk
from app.db.models import Attempt, Audit, Destination, Job, Team
from app.ids import JOB, new_id, parse, show
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.cli.test_status import a_job, add, an_event

HOUR = timedelta(hours=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as client:
        place = {"kind": "celery", "queue": "q", "source": "file", "created_at": utc_now()}
        with client.database.write() as session:
            session.add(Team(name="sales", source="file", created_at=utc_now()))
            session.flush()
            session.add_all(Destination(team=team, name="jobs", **place) for team in ("crm", "sales"))
        yield client


def make(api, *states, **changes):
    """The ids of jobs in these states."""
    now = utc_now()
    event = an_event(now, state="processed", type="connection.created")
    made = [a_job(now, event.id, state=state, finished_at=now - HOUR, fault="team", **changes) for state in states]
    add(api.database, event, *made)
    return [show(JOB, job.id) for job in made]


def state(api, job_id):
    with api.database.read() as session:
        return session.get(Job, parse(JOB, job_id)).state


def test_a_filter_is_counted_first_and_then_applied(api, broker_url):
    ids = make(api, "discarded", "discarded", "completed")
    body = {"filter": {"team": "crm", "fault": "team"}, "dry_run": True}
    shown = api("POST", "/jobs/retry", json=body).json()
    assert (shown["count"], shown["changed"], shown["more"]) == (2, 0, False)
    assert [sample["id"] for sample in shown["samples"]] == ids[:2]
    assert shown["groups"] == [
        {"team": "crm", "destination": "jobs", "state": "discarded", "fault": "team", "count": 2}
    ]
    assert state(api, ids[0]) == "discarded"
    done = api("POST", "/jobs/retry", json=body | {"dry_run": False, "expected": shown["count"]}).json()
    assert (done["count"], done["changed"]) == (2, 2)
    assert [state(api, id_) for id_ in ids] == ["available", "available", "completed"]
    broker = Broker.at("internal", broker_url)
    try:
        assert broker.queue_length(IO_QUEUE) == 1  # a hint was sent to the workers
    finally:
        broker.close()
    [row] = api.json("/audit?action=job.retried")["data"]
    assert (row["actor"], row["detail"]["count"], row["detail"]["team"]) == ("token:operator", 2, "crm")


def test_what_was_not_seen_is_not_touched(api):
    ids = make(api, "discarded", "discarded")
    wanted = {"filter": {"state": "discarded"}}
    problem_of(api("POST", "/jobs/retry", json=wanted), 422, "invalid_input")
    refused = problem_of(api("POST", "/jobs/retry", json=wanted | {"expected": 1}), 409, "conflict")
    assert refused["found"] == {"count": 2}
    assert {state(api, id_) for id_ in ids} == {"discarded"}
    limited = api("POST", "/jobs/retry", json=wanted | {"expected": 1, "limit": 1}).json()
    assert (limited["changed"], limited["more"]) == (1, True)


@pytest.mark.parametrize("member", ["event", "created_since", "ended_until", "team", "destination", "route", "name"])
def test_an_empty_member_of_a_filter_means_nothing_and_not_everything(api, member):
    """Promise 14."""
    [job_id] = make(api, "discarded")
    answer = api("POST", "/jobs/retry", json={"filter": {member: ""}, "expected": 1})
    assert answer.status_code in {404, 422} or answer.json()["count"] == 0, answer.text
    assert state(api, job_id) == "discarded"


def test_jobs_named_by_id_say_why_they_are_left_alone(api):
    ids = make(api, "available", "running", "completed")
    done = api("POST", "/jobs/cancel", json={"ids": ids}).json()
    assert done["changed"] == 1
    assert [(job["id"], job["state"]) for job in done["left_alone"]] == [(ids[1], "running"), (ids[2], "completed")]
    assert "called back" in done["left_alone"][0]["why"]


@pytest.mark.parametrize(
    ("act", "before", "after"),
    [
        ("retry", "discarded", "available"),
        ("cancel", "retryable", "cancelled"),
        ("redeliver", "completed", "available"),
    ],
)
def test_one_job_is_acted_on_by_its_path_and_twice_is_once(api, act, before, after):
    [job_id] = make(api, before)
    assert api("POST", f"/jobs/{job_id}/{act}").json() == {"id": job_id, "changed": True, "state": after, "why": None}
    again = api("POST", f"/jobs/{job_id}/{act}").json()
    assert (again["changed"], again["state"]) == (False, after)
    assert again["why"]


def test_a_running_job_cannot_be_called_back(api):
    [job_id] = make(api, "running")
    refused = problem_of(api("POST", f"/jobs/{job_id}/cancel"), 409, "conflict")
    assert refused["found"] == {"state": "running"}
    assert "called back" in refused["detail"]


def test_a_redelivery_needs_the_destination_and_the_time_and_says_how_to_go_on(api):
    ids = make(api, "completed")
    problem_of(
        api("POST", "/jobs/redeliver", json={"filter": {"destination": "crm/jobs"}, "dry_run": True}),
        422,
        "invalid_input",
    )
    body = {"filter": {"destination": "crm/jobs", "ended_since": "2h"}, "expected": 1}
    done = api("POST", "/jobs/redeliver", json=body).json()
    assert (done["changed"], bool(done["ended_until"])) == (1, True)
    assert state(api, ids[0]) == "available"


def test_a_team_acts_on_its_own_jobs_only(api):
    [own] = make(api, "discarded")
    [other] = make(api, "discarded", team="sales")
    problem_of(api("POST", f"/jobs/{other}/retry", who="team"), 404, "not_found")
    problem_of(api("POST", "/jobs/retry", who="team", json={"ids": [own, other]}), 404, "not_found")
    problem_of(
        api("POST", "/jobs/retry", who="team", json={"filter": {"team": "sales"}, "dry_run": True}), 404, "not_found"
    )
    shown = api("POST", "/jobs/retry", who="team", json={"filter": {}, "dry_run": True}).json()
    assert [sample["id"] for sample in shown["samples"]] == [own]
    assert api("POST", "/jobs/retry", who="team", json={"filter": {}, "expected": 1}).json()["changed"] == 1
    assert (state(api, own), state(api, other)) == ("available", "discarded")
    with api.database.read() as session:
        assert [entry.actor for entry in session.query(Audit).filter(Audit.action == "job.retried")] == ["token:team"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"ids": [show(JOB, new_id())], "filter": {}},
        {"filter": {"created_since": "yesterday"}, "dry_run": True},
        {"filter": {"state": "completed"}, "dry_run": True},
        {"filter": {"destination": "jobs"}, "dry_run": True},
    ],
)
def test_what_makes_no_sense_is_refused(api, body):
    problem_of(api("POST", "/jobs/retry", json=body), 422, "invalid_input")


@pytest.mark.parametrize("act", ["retry", "cancel", "redeliver"])
@pytest.mark.parametrize("named", [{"team": "crn"}, {"destination": "crm/jobbs"}, {"route": "crm/nosuch"}])
def test_a_name_that_was_never_defined_is_refused_and_not_taken_for_no_jobs(api, act, named):
    make(api, "discarded")
    wanted = ({"destination": "crm/jobs", "ended_since": "1d"} if act == "redeliver" else {}) | named
    found = problem_of(api("POST", f"/jobs/{act}", json={"filter": wanted, "dry_run": True}), 422, "invalid_input")
    if named != {"team": "crn"} or act != "redeliver":  # else the two contradict each other
        assert "never" in found["detail"]


def test_a_retired_destination_is_known(api):
    with api.database.write() as session:
        session.get(Destination, ("crm", "jobs")).retired_at = utc_now()
    answer = api("POST", "/jobs/retry", json={"filter": {"destination": "crm/jobs"}, "dry_run": True})
    assert (answer.status_code, answer.json()["count"]) == (200, 0)


def test_dead_letters_are_listed_by_fault_and_destination(api):
    [job_id] = make(api, "discarded")
    [found] = api.json("/jobs?state=discarded&fault=team&destination=crm/jobs")["data"]
    assert (found["id"], found["fault"], found["backfill"], found["next_at"]) == (job_id, "team", False, None)
    assert api.json("/jobs?fault=ours")["data"] == []
    problem_of(api.get("/jobs?destination=jobs"), 422, "invalid_input")


def test_queues_say_what_waits_where_and_a_team_sees_its_own(api):
    make(api, "available", "retryable", "running", "discarded", "completed")
    make(api, "available", blocked_by="breaker")
    make(api, "available", "available", team="sales")
    found = api.json("/queues")
    assert [queue["queue"] for queue in found["internal"]] == ["waylink.events", "waylink.io"]
    crm, sales = found["destinations"]
    counts = ("available", "retryable", "running", "parked", "discarded_by_team", "discarded_by_us")
    assert [crm[name] for name in counts] == [1, 1, 1, 1, 1, 0]
    assert (crm["team"], crm["disabled"], crm["capped"], bool(crm["oldest_due_at"])) == ("crm", False, False, True)
    assert sales["available"] == 2
    own = api.json("/queues", who="team")
    assert (own["internal"], [destination["team"] for destination in own["destinations"]]) == ([], ["crm"])
    problem_of(api.get("/queues?team=sales", who="team"), 404, "not_found")


def test_jobs_are_summed_up_by_destination_state_and_fault(api):
    make(api, "available", "discarded", "discarded", "completed")
    make(api, "retryable", blocked_by="disabled", team="sales")
    rows = api.json("/jobs/summary")["data"]
    found = {(row["team"], row["state"], row["blocked_by"], row["fault"]): row["count"] for row in rows}
    assert found == {
        ("crm", "available", None, None): 1,
        ("crm", "discarded", None, "team"): 2,
        ("sales", "retryable", "disabled", None): 1,
    }
    assert {row["team"] for row in api.json("/jobs/summary", who="team")["data"]} == {"crm"}


def test_a_first_attempt_that_is_in_its_jobs_row_is_shown_like_one_with_a_row(api):
    at = utc_now()
    tried = {"started_at": at, "latency_ms": 12.5}
    in_job, apart = make(api, "completed", "completed")
    with api.database.write() as session:
        bulk.update(session, Job, [{"id": parse(JOB, in_job), **tried}])
        bulk.insert(session, Attempt, [{"job_id": parse(JOB, apart), "number": 1, "outcome": "completed", **tried}])
    first, second = (api.json(f"/jobs/{job_id}")["attempt_log"] for job_id in (in_job, apart))
    none = {"status": None, "error": None, "response_excerpt": None}
    shown = {"number": 1, "started_at": at.isoformat(), "latency_ms": 12.5, "outcome": "completed"}
    assert first == second == [shown | none]
