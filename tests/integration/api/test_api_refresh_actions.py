"""Acting on renewals by the API: run, pause, resume and sweep."""

import pytest

from app.clock import utc_now
from app.db import connections
from app.db.connections import ConnectionKey
from tests.integration.api import test_api_connections
from tests.integration.api.api_client import problem_of
from tests.integration.sandbox.sandbox_server import control

waylink, con = test_api_connections.waylink, test_api_connections.con  # fixtures


def test_a_planned_renewal_is_carried_out_now(waylink, con, connection_id):
    api = waylink.api
    control(waylink.nango, connection_id, "oauth2", expires_in=3600)
    [plan] = api.json("/refreshes?state=open")["data"]
    problem_of(api("POST", f"/refreshes/{plan['id']}/run", who="viewer"), 403, "forbidden")
    first = api("POST", f"/refreshes/{plan['id']}/run")
    assert (first.status_code, first.json()["outcome"]) == (200, "first_seen")
    over = problem_of(api("POST", f"/refreshes/{plan['id']}/run"), 409, "conflict")
    assert over["found"] == {"outcome": "superseded", "connection": con}
    assert api("POST", f"/connections/{con}/refresh?force=false").json()["outcome"] == "unchanged"
    [plan] = api.json("/refreshes?state=open")["data"]
    assert api("POST", f"/refreshes/{plan['id']}/run?force=true").json()["outcome"] == "renewed"
    rows = [row for row in api.json("/refreshes?state=finished")["data"] if row["requested_by"]]
    assert [(row["outcome"], row["forced"]) for row in rows] == [
        ("renewed", True), ("unchanged", False), ("first_seen", False),
    ]  # fmt: skip
    problem_of(api("POST", f"/refreshes/ref_{'0' * 32}/run"), 404, "not_found")


def test_an_integration_is_paused_listed_and_resumed(waylink, con):
    api = waylink.api
    assert api.json("/refreshes/pauses", who="viewer") == {"data": []}
    wanted = {"integration": "oauth2", "reason": "maintenance"}
    problem_of(api("POST", "/refreshes/pauses", who="viewer", json=wanted), 403, "forbidden")
    paused = api("POST", "/refreshes/pauses", json=wanted).json()
    assert (paused["environment"], paused["cause"], paused["reason"], paused["actor"]) == (
        "default", "operator", "maintenance", "token:operator",
    )  # fmt: skip
    assert api.json("/refreshes/pauses?environment=default")["data"] == [paused]
    assert api.json("/refreshes/pauses?environment=other")["data"] == []
    problem_of(api("POST", "/refreshes/pauses", json=wanted), 409, "conflict")
    refused = problem_of(api("POST", "/refreshes/pauses", json={"integration": "unknown"}), 422, "invalid_input")
    assert [error["field"] for error in refused["errors"]] == ["integration"]
    problem_of(api("POST", "/refreshes/sweeps", json={"integration": "oauth2", "within": "1h"}), 409, "conflict")
    assert api.json(f"/connections/{con}/renewal")["paused"].startswith("paused by token:operator: maintenance")
    resumed = api("DELETE", "/refreshes/pauses/default/oauth2").json()
    assert (resumed["cause"], resumed["released"]) == ("operator", 0)
    problem_of(api("DELETE", "/refreshes/pauses/default/oauth2"), 404, "not_found")
    assert api.json(f"/connections/{con}/renewal")["paused"] is None
    assert {act["action"] for act in api.json("/audit?subject=default/oauth2")["data"]} == {
        "refreshes.paused",
        "refreshes.resumed",
    }


@pytest.fixture
def several(waylink):
    now = utc_now()
    rows = [connections.new(ConnectionKey("default", "zo/ho", f"z-{number}"), now=now) for number in range(5)]
    for row in rows:
        row.status, row.auth_mode = "active", "OAUTH2"
    with waylink.api.database.write() as session:
        connections.insert(session, rows)


def test_a_sweep_is_tried_first_and_then_planned_once(waylink, several):
    api, wanted = waylink.api, {"integration": "zo/ho", "within": "2h"}
    problem_of(api("POST", "/refreshes/sweeps", who="viewer", json=wanted), 403, "forbidden")
    shown = api("POST", "/refreshes/sweeps", json={**wanted, "dry_run": True}).json()
    assert (shown["count"], shown["planned"], shown["dry_run"], shown["takes_seconds"]) == (5, 0, True, 7200)
    assert shown["calls_per_minute"] < shown["budget_per_minute"]
    problem_of(api("POST", "/refreshes/sweeps", json=wanted), 422, "invalid_input")
    more = problem_of(api("POST", "/refreshes/sweeps", json={**wanted, "expected": 4}), 409, "conflict")
    assert more["found"] == {"count": 5}
    assert api.json("/refreshes?integration=zo/ho")["data"] == []
    part = api("POST", "/refreshes/sweeps", json={**wanted, "limit": 3, "expected": 3}).json()
    assert (part["planned"], part["more"]) == (3, True)
    rest = api("POST", "/refreshes/sweeps", json={**wanted, "expected": 5}).json()
    assert (rest["planned"], rest["more"], rest["swept_before"]) == (2, False, 3)
    assert api("POST", "/refreshes/sweeps", json={**wanted, "expected": 5}).json()["planned"] == 0
    plans = api.json("/refreshes?state=open&integration=zo/ho")["data"]
    assert len(plans) == 5
    assert {plan["forced"] for plan in plans} == {True}
    assert {act["action"] for act in api.json("/audit?subject=default/zo/ho")["data"]} == {"refreshes.swept"}


def test_a_sweep_that_cannot_be_is_refused(waylink, several):
    api = waylink.api
    for within in ("soon", "1s", "31d"):
        wanted = {"integration": "zo/ho", "within": within, "dry_run": True}
        problem_of(api("POST", "/refreshes/sweeps", json=wanted), 422, "invalid_input")
    wanted = {"integration": "unknown", "within": "1h", "dry_run": True}
    refused = problem_of(api("POST", "/refreshes/sweeps", json=wanted), 422, "invalid_input")
    assert [error["field"] for error in refused["errors"]] == ["integration"]
    problem_of(api("POST", "/refreshes/sweeps", json={"integration": "zo/ho"}), 400, "invalid_request")
