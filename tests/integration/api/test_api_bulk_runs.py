"""Bulk runs by REST: an act on many rows goes on after its answer; operators and its own team see, pause and end it."""

import pytest

from app.brokers.celery_broker import IO_QUEUE, Broker
from app.clock import utc_now
from app.domain.access import Scope
from app.ids import BULK_RUN, JOB, new_id, show
from app.services.bulk_runs.runner import BulkRunner
from app.services.routing.cache import RouteCache
from app.web.api import bulk_runs
from tests.integration.api.api_client import problem_of
from tests.integration.api.test_api_jobs import api, make, state
from tests.waiting import PATIENCE

__all__ = ["api"]


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch):
    monkeypatch.setattr(bulk_runs, "AT_ONCE", 2)


def begin(api, *, who="operator", **filters):
    """Retry all that match; the run as it was answered."""
    counted = api("POST", "/jobs/retry", who=who, json={"filter": filters, "dry_run": True}).json()["count"]
    body = {"filter": filters, "expected": counted, "reason": "the endpoint is back"}
    return api("POST", "/jobs/retry", who=who, json=body).json()["run"]


def work(api):
    BulkRunner(api.database, utc_now, RouteCache(), lambda _: None, lambda _: None).work(seconds=PATIENCE)


def test_many_rows_are_left_to_workers_and_the_run_says_how_far_it_is(api, broker_url):
    ids = make(api, "discarded", "discarded", "discarded")
    run = begin(api, team="crm")
    assert (run["act"], run["state"], run["counted"], run["done"]) == ("jobs.retry", "waiting", 3, 0)
    assert (run["filter"], run["reason"]) == ({"states": ["discarded"], "team": "crm"}, "the endpoint is back")
    assert {state(api, job_id) for job_id in ids} == {"discarded"}
    broker = Broker.at("internal", broker_url)
    try:
        assert broker.queue_length(IO_QUEUE) == 1  # a worker is woken
    finally:
        broker.close()
    work(api)
    found = api.json(f"/bulk-runs/{run['id']}", who=str(Scope.VIEWER))
    assert (found["state"], found["done"], bool(found["finished_at"])) == ("done", 3, True)
    assert [one["id"] for one in api.json("/bulk-runs?state=done&act=jobs.retry")["data"]] == [run["id"]]
    assert api.json("/bulk-runs?state=failed")["data"] == []


def test_few_rows_are_changed_by_the_call_itself(api):
    make(api, "discarded", "discarded")
    run = begin(api)
    assert (run["state"], run["done"]) == ("done", 2)


def test_a_run_is_paused_resumed_and_cancelled_and_each_is_audited(api):
    ids = make(api, "discarded", "discarded", "discarded")
    run = begin(api)
    path = f"/bulk-runs/{run['id']}"
    assert api("POST", f"{path}/pause").json()["state"] == "paused"
    problem_of(api("POST", f"{path}/pause"), 409, "conflict")
    work(api)
    assert {state(api, job_id) for job_id in ids} == {"discarded"}
    assert api("POST", f"{path}/resume").json()["state"] == "waiting"
    assert api("POST", f"{path}/cancel").json()["state"] == "cancelled"
    assert problem_of(api("POST", f"{path}/resume"), 409, "conflict")["found"] == {"state": "cancelled"}
    work(api)
    assert {state(api, job_id) for job_id in ids} == {"discarded"}
    actions = [entry["action"] for entry in api.json(f"/audit?subject={run['id']}")["data"]]
    assert actions == ["bulk_run.cancelled", "bulk_run.resumed", "bulk_run.paused", "job.retried"]


def test_an_idempotency_key_begins_one_run(api):
    make(api, "discarded", "discarded", "discarded")
    body = {"filter": {}, "expected": 3}
    first, second = (
        api("POST", "/jobs/retry", json=body, headers={"idempotency-key": "once"}).json()["run"] for _ in range(2)
    )
    assert first["id"] == second["id"]
    assert len(api.json("/bulk-runs")["data"]) == 1


def test_a_team_sees_and_ends_its_own_runs_only(api):
    make(api, "discarded", "discarded", "discarded")
    make(api, "discarded", team="sales")
    own, other = begin(api, who="team"), begin(api, team="crm")
    assert (own["team"], own["counted"], other["team"]) == ("crm", 3, None)
    assert [run["id"] for run in api.json("/bulk-runs", who="team")["data"]] == [own["id"]]
    problem_of(api.get(f"/bulk-runs/{other['id']}", who="team"), 404, "not_found")
    for act in ("pause", "resume", "cancel"):
        problem_of(api("POST", f"/bulk-runs/{other['id']}/{act}", who="team"), 404, "not_found")
    assert api("POST", f"/bulk-runs/{own['id']}/cancel", who="team").json()["state"] == "cancelled"


def test_viewers_end_nothing_and_an_unknown_run_is_not_found(api):
    make(api, "discarded", "discarded", "discarded")
    run = begin(api)
    problem_of(api("POST", f"/bulk-runs/{run['id']}/cancel", who=str(Scope.VIEWER)), 403, "forbidden")
    problem_of(api.get(f"/bulk-runs/{show(BULK_RUN, new_id())}"), 404, "not_found")
    problem_of(api.get("/bulk-runs/blk_1"), 404, "not_found")


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [show(JOB, new_id())] * 100_001},
        {"filter": {}, "expected": 1, "reason": "r" * 1_000_000},
        {"filter": {}, "expected": -1},
        {"filter": {}, "expected": 1, "limit": 0},
    ],
    ids=["100,001 ids", "a reason of 1 MB", "fewer than none", "no room"],
)
def test_what_has_no_bound_is_refused_before_it_begins(api, body):
    make(api, "discarded")
    assert api("POST", "/jobs/retry", json=body).status_code in {400, 413}
    assert api.json("/bulk-runs")["data"] == []


def test_a_filter_that_matches_nothing_begins_no_run(api):
    answer = api("POST", "/jobs/retry", json={"filter": {"team": "crm"}, "expected": 0}).json()
    assert (answer["count"], answer["changed"], answer["run"]) == (0, 0, None)
    assert api.json("/bulk-runs")["data"] == []
