"""Renewals by the API: lists, one with what comes next, and the window of a connection's renewal."""

from datetime import datetime, timedelta

import pytest

from app.clock import utc_now
from app.db import connections, refreshes
from app.db.connections import ConnectionKey
from app.db.models import Connection
from app.domain.refreshing.plan import Plan
from app.ids import CONNECTION, parse, show
from tests.integration.api.api_client import open_api, problem_of

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAMES = ("late", "soon", "forced", "reconnects")
VARIABLES = {
    "WAYLINK_NANGO_API_KEY": "k",
    "WAYLINK_NANGO_SIGNING_KEYS": "hunter2",
    "WAYLINK_NANGO_BASE_URL": "http://127.0.0.1:1",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path, **VARIABLES) as opened:
        yield opened


@pytest.fixture
def planned(api):
    """Connections by name: one whose renewal is overdue, one before its margin, a grant to keep alive, one given up."""
    now = utc_now()
    rows = {name: connections.new(ConnectionKey("default", "google-mail", name), now=now) for name in NAMES}
    for row in rows.values():
        row.status, row.auth_mode, row.provider, row.expires_source = "active", "OAUTH2", "google-mail", "provider"
    rows["late"].expires_at, rows["soon"].expires_at = now + 2 * MINUTE, now + HOUR
    rows["forced"].grant_expires_at, rows["forced"].renewed_at = now + 20 * DAY, now - 10 * DAY
    rows["forced"].grant_source, rows["forced"].grant_reason = "policy", "30 days from then on"
    rows["reconnects"].status = "needs_reconnect"
    plans = {
        rows["late"].id: Plan(now - 10 * MINUTE, forced=False, reason="before the token expires"),
        rows["soon"].id: Plan(rows["soon"].expires_at - 12 * MINUTE, forced=False, reason="before the token expires"),
        rows["forced"].id: Plan(now + 14 * DAY, forced=True, reason="keeps the grant alive"),
    }
    with api.database.write() as session:
        connections.insert(session, list(rows.values()))
        refreshes.plan(session, plans, now=now)
    return {name: show(CONNECTION, row.id) for name, row in rows.items()}


def names(answer):
    return [row["connection_id"] for row in answer["data"]]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("state=open", ["late", "soon", "forced"]),
        ("state=due", ["late"]),
        ("state=overdue", ["late"]),
        ("state=finished", []),
        ("due_before=1d", ["late", "soon"]),
        ("due_after=1d&provider=google-mail", ["forced"]),
        ("deadline_before=30d&environment=default", ["late", "soon", "forced"]),
        ("outcome=failed", []),
        ("integration=google-mail", ["forced", "soon", "late"]),
        ("connection_id=soon", ["soon"]),
        ("user=u&organization=o", []),
    ],
)
def test_renewals_are_listed_by_everything_they_are_asked_for(api, planned, query, wanted):
    assert names(api.json(f"/refreshes?{query}", who="viewer")) == wanted


def test_plans_come_page_by_page_the_first_due_first(api, planned):
    first = api.json("/refreshes?state=open&limit=2")
    assert names(first) == ["late", "soon"]
    last = api.json(f"/refreshes?state=open&limit=2&cursor={first['next_cursor']}")
    assert (names(last), last["next_cursor"]) == (["forced"], None)


def test_what_cannot_be_asked_for_is_refused(api, planned):
    problem_of(api.get("/refreshes?state=odd"), 400, "invalid_request")
    problem_of(api.get("/refreshes?open=true"), 400, "invalid_request")
    problem_of(api.get("/refreshes?due_before=soon"), 422, "invalid_input")
    problem_of(api.get("/refreshes?state=finished&due_before=1h"), 422, "invalid_input")
    problem_of(api.get("/connections?grant_before=soon"), 422, "invalid_input")
    problem_of(api.get(f"/refreshes/ref_{'0' * 32}"), 404, "not_found")
    problem_of(api.get(f"/refreshes?state=open&cursor=ref_{'0' * 32}"), 404, "not_found")
    problem_of(api.get(f"/connections/con_{'0' * 32}/renewal"), 404, "not_found")
    for path in ("/refreshes/ref_x", "/connections/con_x/renewal"):
        problem_of(api.get(path, who="team"), 403, "forbidden")


def test_one_renewal_is_shown_with_what_comes_next(api, planned):
    [row] = api.json("/refreshes?state=due")["data"]
    shown = api.json(f"/refreshes/{row['id']}", who="viewer")
    assert shown["next"] == {
        "id": row["id"], "at": row["next_at"], "state": "overdue", "forced": False, "why": "before the token expires",
    }  # fmt: skip
    assert (shown["connection"], shown["failures"]) == (planned["late"], 0)


def test_connections_are_listed_by_when_token_and_grant_lapse(api, planned):
    assert names(api.json("/connections?expires_before=30m")) == ["late"]
    assert names(api.json("/connections?expires_after=30m&expires_before=2h")) == ["soon"]
    assert names(api.json("/connections?grant_before=30d")) == ["forced"]
    assert names(api.json("/connections?grant_after=30d")) == []


def test_connections_that_are_kept_alive_only_are_listed(api, planned):
    assert names(api.json("/connections?kept_alive=true")) == []
    with api.database.write() as session:
        session.get_one(Connection, parse(CONNECTION, planned["soon"])).alive_by = "budget"
    assert names(api.json("/connections?kept_alive=true")) == ["soon"]
    assert api.json(f"/connections/{planned['soon']}/renewal")["alive_by"] == "budget"


def renewal(api, con):
    return api.json(f"/connections/{con}/renewal", who="viewer")


def test_the_window_of_a_renewal_is_told_with_its_reason_and_its_sources(api, planned):
    found = renewal(api, planned["soon"])
    expires_at = datetime.fromisoformat(found["expires_at"])
    assert found["window"] == {
        "begins_at": (expires_at - 14 * MINUTE).isoformat(),
        "ends_at": (expires_at - 10 * MINUTE).isoformat(),
    }
    assert found["planned_at"] == (expires_at - 12 * MINUTE).isoformat() == found["next_look"]["at"]
    assert (found["reason"], found["forced"], found["status"]) == ("before the token expires", False, "active")
    assert (found["expires_source"], found["grant_source"]) == ("provider", "unknown")
    assert 45 * 60 < found["retry_after"] <= 48 * 60


def test_the_window_of_a_grant_that_is_kept_alive_comes_before_its_deadline(api, planned):
    found = renewal(api, planned["forced"])
    deadline = datetime.fromisoformat(found["grant_expires_at"])
    assert found["window"]["begins_at"] == (deadline - 7 * DAY).isoformat()
    assert found["window"]["ends_at"] == (deadline - 3.5 * DAY).isoformat()
    assert (found["forced"], found["grant_source"], found["grant_reason"]) == (True, "policy", "30 days from then on")
    assert found["retry_after"] == 6 * 3600


def test_a_connection_without_a_plan_says_why(api, planned):
    found = renewal(api, planned["reconnects"])
    assert (found["window"], found["planned_at"], found["forced"], found["next_look"]["at"]) == (None,) * 4
    assert "has to reconnect" in found["reason"]
    assert found["reason"] == found["next_look"]["why"]


def test_a_renewal_that_is_overdue_says_so(api, planned):
    assert renewal(api, planned["late"])["next_look"]["state"] == "overdue"
    assert renewal(api, planned["late"])["retry_after"] == 60


def test_where_the_policy_renews_nothing_the_planned_moment_is_the_window(api, planned):
    other = connections.new(ConnectionKey("unknown", "google-mail", "of-no-environment"), now=utc_now())
    at = utc_now() + HOUR
    with api.database.write() as session:
        connections.insert(session, [other])
        refreshes.plan(session, {other.id: Plan(at, forced=False, reason="left over")}, now=utc_now())
    found = renewal(api, show(CONNECTION, other.id))
    assert found["window"] == {"begins_at": at.isoformat(), "ends_at": at.isoformat()}
