"""Acts on many connections by REST: counted first, refused where more are meant, and one run each."""

import pytest

from app.clock import utc_now
from app.db.models import Connection
from app.domain.access import Scope
from app.ids import CONNECTION, new_id, show
from tests.integration.api.api_client import problem_of
from tests.integration.api.test_api_jobs import api

__all__ = ["api"]
ACTS = {
    "refresh": {},
    "add-tags": {"tags": {"plan": "pro"}},
    "remove-tags": {"keys": ["plan"]},
    "unlink": {},
    "delete": {},
}


@pytest.fixture
def ids(api):
    """Three connections to one integration, and one to another."""
    now = utc_now()
    made = []
    with api.database.write() as session:
        for integration in ("crm", "crm", "crm", "erp"):
            ref = new_id()
            facts = {"environment": "default", "integration": integration, "connection_id": ref.hex}
            session.add(
                Connection(
                    id=ref,
                    status="active",
                    tags={"plan": "trial"},
                    tags_disagree=False,
                    absences=0,
                    created_at=now,
                    updated_at=now,
                    **facts,
                )
            )
            made.append(show(CONNECTION, ref))
    return made


def act(api, name, *, status=200, who="operator", **body):
    answer = api("POST", f"/connections/{name}", who=who, json={**ACTS[name], **body})
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("name", ACTS)
def test_each_act_is_counted_first_and_becomes_a_run(api, ids, name):
    counted = act(api, name, filter={"integration": "crm"}, dry_run=True)
    assert (counted["count"], counted["run"]) == (3, None)
    assert counted["groups"] == [{"environment": "default", "integration": "crm", "status": "active", "count": 3}]
    assert [sample["id"] for sample in counted["samples"]] == ids[:3]
    problem = act(api, name, filter={"integration": "crm"}, expected=2, status=409)
    assert "3 connections by now, not 2" in problem["detail"]
    assert api.json("/bulk-runs")["data"] == []
    run = act(api, name, filter={"integration": "crm"}, expected=3, reason="asked for")["run"]
    assert (run["act"], run["counted"], run["reason"]) == (f"connections.{name.replace('-', '_')}", 3, "asked for")
    assert run["filter"]["integration"] == "crm"
    if name == "unlink":
        assert (run["state"], run["left_alone"]) == ("done", 3)
        assert {row["id"] for row in run["rows"]} == set(ids[:3])
    else:
        assert run["state"] == "waiting", "a worker asks Nango, not the web"


def test_a_selection_needs_no_count_and_takes_no_other(api, ids):
    run = act(api, "delete", ids=[ids[0], ids[3], ids[0]])["run"]
    assert (run["counted"], run["filter"]["ids"]) == (2, [ids[0], ids[3]])
    assert act(api, "delete", ids=[show(CONNECTION, new_id())])["run"] is None


def test_tags_of_the_filter_and_of_the_act_are_apart(api, ids):
    run = act(api, "add-tags", filter={"tags": {"plan": "trial"}}, expected=4)["run"]
    assert (run["filter"]["tags"], run["filter"]["add_tags"]) == ({"plan": "trial"}, {"plan": "pro"})
    [entry] = api.json("/audit?action=tags.added")["data"]
    assert (entry["detail"]["tags"], entry["detail"]["add_tags"]) == (["plan"], ["plan"]), "keys alone"


@pytest.mark.parametrize(
    ("name", "body", "told"),
    [
        ("delete", {}, "either `ids` or a `filter`"),
        ("delete", {"ids": ["con_1"], "filter": {}}, "either `ids` or a `filter`"),
        ("delete", {"filter": {}}, "expected"),
        ("delete", {"ids": ["con_1"] * 100_001}, "1000"),
        ("delete", {"filter": {"expires_before": "soon"}, "dry_run": True}, "soon"),
        ("delete", {"filter": {"needs_reconnect": True, "status": "active"}, "dry_run": True}, "leave nothing"),
        ("delete", {"filter": {}, "expected": 4, "reason": "x" * 501}, "500"),
        ("add-tags", {"filter": {}, "dry_run": True, "tags": {}}, "1"),
        ("add-tags", {"filter": {}, "dry_run": True, "tags": {"a b": "x"}}, "tag"),
        ("remove-tags", {"filter": {}, "dry_run": True, "keys": ["a b"]}, "tag"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_begins(api, ids, name, body, told):
    answer = api("POST", f"/connections/{name}", json={**ACTS[name], **body})
    assert answer.status_code in {400, 413, 422}, answer.text
    assert told in answer.text
    assert api.json("/bulk-runs")["data"] == []


def test_a_megabyte_of_reason_is_refused(api, ids):
    answer = api("POST", "/connections/delete", json={"ids": ids[:1], "reason": "x" * 2_000_000})
    problem_of(answer, 413, "too_large")
    assert api.json("/bulk-runs")["data"] == []


@pytest.mark.parametrize("name", ACTS)
def test_neither_viewers_nor_teams_act_on_connections(api, ids, name):
    for who in (str(Scope.VIEWER), "team"):
        act(api, name, ids=ids[:1], status=403, who=who)
