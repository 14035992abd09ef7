"""Reports of reconciliation over REST, and asking for a run."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.db import reconciliations as rows
from app.domain.reconciling import RunOutcome, Stage, Trigger
from app.ids import RECONCILIATION, new_id, show
from tests.integration.api.api_client import open_api, problem_of

KEYS = {"WAYLINK_NANGO_API_KEY": "4d70f328-6b39-451e-b92f-21969323b448", "WAYLINK_NANGO_BASE_URL": "http://127.0.0.1:9"}


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, valkey, tmp_path):
    url = f"sqlite:///{tmp_path}/w.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    valkey.start()
    with open_api(database_url=url, broker_url=valkey.url(0), folder=tmp_path, **KEYS) as client:
        yield client


def ask(api, **body):
    return api("POST", "/reconciliations", json=body)


def test_a_run_is_asked_for_followed_and_in_the_audit(api):
    answer = ask(api, dry_run=True)
    assert answer.status_code == 202, answer.text
    run = answer.json()
    assert (run["environment"], run["trigger"], run["stage"], run["dry_run"]) == ("default", "demand", "listing", True)
    assert (run["outcome"], run["found"], run["samples"], run["heal_seconds_mean"]) == (None, {}, {}, None)
    assert api.json(f"/reconciliations/{run['id']}", who="viewer") == run
    assert api.json("/reconciliations", who="viewer") == {"data": [run], "next_cursor": None}
    [entry] = api.json("/audit?action=reconciliation.requested")["data"]
    assert (entry["actor"], entry["subject"]) == ("token:operator", run["id"])
    assert entry["detail"] == {"environment": "default", "dry_run": True, "accept_deletions": False}


def test_a_second_one_is_a_conflict_that_names_the_first(api):
    run = ask(api).json()
    assert run["trigger"] == "import"  # the environment's first
    body = problem_of(ask(api, dry_run=True), 409, "conflict")
    assert body["found"] == {"id": run["id"]}
    assert run["id"] in body["detail"]
    assert len(api.json("/audit?action=reconciliation.requested")["data"]) == 1


@pytest.mark.parametrize("environment", ["elsewhere", ""])
def test_an_environment_that_is_not_configured_is_refused(api, environment):
    status, word = (422, "invalid_input") if environment else (400, "invalid_request")
    body = problem_of(ask(api, environment=environment), status, word)
    assert "environment" in body["detail"]


def test_what_is_not_there_or_no_id_is_reported(api):
    problem_of(api.get(f"/reconciliations/{show(RECONCILIATION, new_id())}"), 404, "not_found")
    problem_of(api.get("/reconciliations/nonsense"), 422, "invalid_input")
    problem_of(api.get("/reconciliations?cursor=nonsense"), 400, "invalid_request")
    problem_of(ask(api, dry="yes"), 400, "invalid_request")


def test_viewers_read_and_do_not_ask(api):
    problem_of(api("POST", "/reconciliations", who="viewer", json={}), 403, "forbidden")
    assert api.json("/reconciliations", who="viewer")["data"] == []


def test_a_long_list_is_read_page_by_page(api):
    made = datetime.now(UTC) - timedelta(days=1)
    for number in range(5):
        with api.database.write() as session:
            run_id = rows.request(session, "default" if number else "other", trigger=Trigger.SCHEDULE, now=made)
            run = rows.get(session, run_id)
            rows.save(session, replace(run, finished_at=made, stage=Stage.DONE, outcome=RunOutcome.COMPLETED))
    first = api.json("/reconciliations?limit=3")
    rest = api.json(f"/reconciliations?limit=3&cursor={first['next_cursor']}")
    ids = [run["id"] for run in first["data"] + rest["data"]]
    assert (len(ids), ids, rest["next_cursor"]) == (5, sorted(ids, reverse=True), None)
    assert len(api.json("/reconciliations?environment=other")["data"]) == 1
