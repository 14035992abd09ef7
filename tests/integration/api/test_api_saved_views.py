"""Saved views: one's own, those that operators share, and what a list would refuse; completion of searches."""

import pytest
from sqlalchemy import select

from app.clock import utc_now
from app.db.models import Audit
from app.domain.access import Rights, Role
from app.ids import VIEW, new_id, show
from app.services.operators import accounts, saved_views
from tests.integration.api.api_client import open_api
from tests.integration.status.rows import a_connection, a_job, add, an_event, destination

FAILED = {"page": "events", "name": "Failed", "query": "q=state%3Afailed&since=7d"}


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as client:
        yield client


def names(api, who, **query):
    return [view["name"] for view in api.json("/views", params=query, who=who)["data"]]


def test_a_view_is_seen_by_its_own_caller_alone(api):
    made = api("POST", "/views", json=FAILED, who="viewer")
    assert made.status_code == 201
    view = made.json()
    assert (view["own"], view["shared"], view["query"]) == (True, False, FAILED["query"])
    assert names(api, "viewer") == ["Failed"]
    for other in ("operator", "team", "team-viewer"):
        assert names(api, other) == []
        for method in ("GET", "DELETE"):
            assert api(method, f"/views/{view['id']}", who=other).status_code == 404
        assert api("PATCH", f"/views/{view['id']}", json={"name": "Mine"}, who=other).status_code == 404
    assert api("DELETE", f"/views/{view['id']}", who="viewer").status_code == 204
    assert api.get(f"/views/{view['id']}", who="viewer").status_code == 404
    assert api.get(f"/views/{show(VIEW, new_id())}").status_code == 404


def test_operators_share_views_with_all_who_are_of_no_team(api):
    for who in ("viewer", "team", "team-viewer"):
        assert api("POST", "/views", json=FAILED | {"shared": True}, who=who).status_code == 403
    view = api("POST", "/views", json=FAILED | {"shared": True}).json()
    own = api("POST", "/views", json=FAILED | {"page": "jobs", "name": "Own", "query": "state=discarded"}, who="viewer")
    assert own.status_code == 201
    assert names(api, "viewer") == ["Own", "Failed"]
    assert names(api, "viewer", page="jobs") == ["Own"]
    assert names(api, "team") == []
    assert api("PATCH", f"/views/{view['id']}", json={"name": "Mine"}, who="viewer").status_code == 403
    assert api("DELETE", f"/views/{view['id']}", who="viewer").status_code == 403
    assert api.get(f"/views/{view['id']}", who="viewer").json()["own"] is False
    changed = api("PATCH", f"/views/{view['id']}", json={"name": "All that failed", "query": "?state=failed&limit=5"})
    assert (changed.json()["name"], changed.json()["query"]) == ("All that failed", "state=failed")
    assert api("PATCH", f"/views/{own.json()['id']}", json={"shared": True}, who="viewer").status_code == 403


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"query": "state=done"}, "query", "state"),
        ({"query": "colour=red"}, "query", "colour"),
        ({"query": "q=tpye:x"}, "query", "character 1: there is no such field"),
        ({"query": "since=soon"}, "query", "since"),
        ({"query": "limit=5&cursor=x"}, "query", "no parameter of the list"),
        ({"query": "state=failed&state=received"}, "query", "twice"),
        ({"query": "&".join("a=b" for _ in range(101))}, "query", "100"),
        ({"name": " \t "}, "name", "1 to 60"),
        ({"name": "a\x1b[2J"}, "name", "that can be shown"),
        ({"page": "jobs", "query": "type=connection.created"}, "query", "type"),
    ],
)
def test_what_the_list_would_refuse_is_not_saved(api, changes, field, says):
    refused = api("POST", "/views", json=FAILED | changes, who="viewer")
    assert refused.status_code == 422, refused.text
    [error] = refused.json()["errors"]
    assert error["field"] == field
    assert says in error["detail"]
    assert names(api, "viewer") == []


def test_names_are_taken_once_and_the_number_of_views_is_bounded(api, monkeypatch):
    monkeypatch.setattr(saved_views, "MAX_OWN", 2)
    monkeypatch.setattr(saved_views, "MAX_SHARED", 1)
    shared = api("POST", "/views", json=FAILED | {"shared": True})
    assert shared.status_code == 201
    taken = api("POST", "/views", json=FAILED | {"name": "FAILED"}, who="viewer")
    assert taken.json()["errors"][0]["rule"] == "taken"
    assert api("POST", "/views", json=FAILED | {"name": "Other", "shared": True}).status_code == 409
    second = api("POST", "/views", json=FAILED | {"name": "Other"})
    assert second.status_code == 201
    assert api("POST", "/views", json=FAILED | {"name": "Third"}).status_code == 409
    assert api("PATCH", f"/views/{second.json()['id']}", json={"shared": True}).status_code == 409


def test_each_change_is_in_the_audit(api):
    view = api("POST", "/views", json=FAILED).json()
    api("PATCH", f"/views/{view['id']}", json={"name": "Renamed"})
    api("PATCH", f"/views/{view['id']}", json={"name": "Renamed"})
    api("DELETE", f"/views/{view['id']}")
    with api.database.read() as session:
        rows = session.scalars(select(Audit).where(Audit.subject == view["id"]).order_by(Audit.id)).all()
    assert [row.action for row in rows] == ["view.added", "view.changed", "view.removed"]
    assert rows[1].detail == {"page": "events", "name": "Renamed", "shared": False}


def test_a_removed_operator_leaves_shared_views_only(api):
    now, rights = utc_now(), Rights(Role.OPERATOR)
    with api.database.write() as session:
        row = accounts.add(session, "ada", rights, actor="cli:test", now=now)
        for name, shared in (("Own", False), ("Shared", True)):
            saved_views.add(
                session, rights.access("ada"), page="events", name=name, query="state=failed", shared=shared, now=now
            )
        accounts.remove(session, row, actor="cli:test", now=now, yes=True)
    assert names(api, "viewer") == ["Shared"]
    with api.database.write() as session:
        accounts.add(session, "ada", rights, actor="cli:test", now=now)
        assert [view.name for view in saved_views.visible(session, rights.access("ada"))] == ["Shared"]


def test_searches_are_completed_by_what_the_newest_events_have(api):
    now, connection = utc_now(), a_connection(utc_now(), "c-1", provider="google-mail")
    facts = {"state": "processed", "connection_ref": connection.id, "connection_id": "c-1", "integration": "oauth2"}
    mine = an_event(now, type="connection.created", tags={"plan": "pro", "name": "Ada Lovelace"}, **facts)
    others = [an_event(now, type="nango.sync", tags={"plan": "free"}, **facts) for _ in range(2)]
    add(api.database, destination("crm", "jobs"), connection, mine, *others, a_job(now, mine.id))

    def suggested(q, who="viewer"):
        found = api.json("/events/suggestions", params={"q": q}, who=who)["data"]
        return {each["term"]: each["count"] for each in found}

    assert suggested("type:") == {"type:nango.sync": 2, "type:connection.created": 1}
    assert suggested("provider:") == {"provider:google-mail": 3}
    assert suggested("state:processed tag.") == {"tag.": None, "tag.plan:free": 2, "tag.plan:pro": 1,
                                                 'tag.name:"Ada Lovelace"': 1}  # fmt: skip
    assert suggested("type:", who="team-viewer") == {"type:connection.created": 1}
    assert "tag.plan:free" not in suggested("", who="team")
    assert suggested("provider:", who="team") == {}
