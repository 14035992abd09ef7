"""Users and organizations over REST, on both databases."""

import json

import pytest

from app.db.models import Link, User
from app.domain.linking import DirectoryPolicy
from app.ids import new_id
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.world import Clock, World, auth

LINES = {"content-type": "application/x-ndjson"}


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, valkey, tmp_path):
    url = f"sqlite:///{tmp_path}/waylink.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    valkey.start()
    with open_api(
        database_url=url, broker_url=valkey.url(0), folder=tmp_path, WAYLINK_DIRECTORY_POLICY="require"
    ) as client:
        yield client


@pytest.fixture
def world(api):
    """The same database as the workers see it."""
    made = World(api.database, Clock(), directory=DirectoryPolicy.REQUIRE)
    yield made
    made.close()


def add(api, path="/users", **fields):
    answer = api("POST", path, json=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_user_is_added_found_changed_and_removed(api):
    organization = add(api, "/organizations", external_id="org_1", name="Acme")
    user = add(api, external_id="u1", email="U1@acme.example", organization="org_1")
    assert (user["external_id"], user["organization"], user["links"], user["linked"]) == ("u1", "org_1", [], 0)
    assert api.json(f"/users/{user['id']}", who="viewer") == user
    assert [user["id"] for user in api.json("/users?email=u1@ACME.example")["data"]] == [user["id"]]
    assert api.json("/users?organization=org_2")["data"] == []
    changed = api("PATCH", f"/users/{user['id']}", json={"display_name": "One", "email": None}).json()
    assert (changed["display_name"], changed["email"], changed["organization"]) == ("One", None, "org_1")
    found = problem_of(api("DELETE", f"/organizations/{organization['id']}"), 409, "conflict")["found"]
    assert found == {"connections": 0, "users": 1}
    assert api("DELETE", f"/users/{user['id']}").json()["history_kept"] is False
    assert api("DELETE", f"/organizations/{organization['id']}").status_code == 200
    assert api.json("/users")["data"] == api.json("/organizations")["data"] == []


def test_a_taken_external_id_is_a_conflict_that_names_its_owner(api):
    first, second = add(api, external_id="u1"), add(api, external_id="u2")
    for answer in (
        api("POST", "/users", json={"external_id": "u1"}),
        api("PATCH", f"/users/{second['id']}", json={"external_id": "u1"}),
    ):
        assert problem_of(answer, 409, "conflict")["found"] == {"id": first["id"]}


def test_wrong_fields_are_named_and_nothing_is_written(api):
    answer = api("POST", "/users", json={"external_id": "a\0b", "email": "nobody", "organization": "org_404"})
    errors = problem_of(answer, 422, "invalid_input")["errors"]
    assert [(error["field"], error["rule"]) for error in errors] == [("external_id", "unstorable"), ("email", "email")]
    problem_of(api("POST", "/users", json={"email": "a@b.example"}), 400, "invalid_request")
    problem_of(api("POST", "/users", json={"external_id": "u", "name": "x"}), 400, "invalid_request")
    problem_of(api("POST", "/users", json={"external_id": "u", "organization": "org_404"}), 422, "invalid_input")
    assert api.json("/users")["data"] == []


def test_waiting_connections_are_linked_by_the_call_and_a_removal_needs_force(api, world):
    world.handle(auth(tags={"end_user_id": "u1"}))
    user = add(api, external_id="u1")
    assert user["linked"] == 1
    assert [(link["connection_id"], link["closed_at"]) for link in user["links"]] == [("c-1", None)]
    assert problem_of(api("DELETE", f"/users/{user['id']}"), 409, "conflict")["found"]["connections"] == 1
    removed = api("DELETE", f"/users/{user['id']}?force=true").json()
    assert removed == {"id": user["id"], "links_closed": 1, "users_released": 0, "history_kept": True}
    assert [user["external_id"] for user in api.json("/users?removed=true")["data"]] == ["u1"]
    problem_of(api("PATCH", f"/users/{user['id']}", json={}), 404, "not_found")


def test_lines_are_imported_and_bad_ones_are_named(api):
    lines = '{"external_id": "u1", "email": "u1@acme.example"}\n{"external_id": ""}\nnonsense\n\n{"external_id": "u2"}'
    preview = api("POST", "/users/import?dry_run=true", content=lines, headers=LINES).json()
    assert (preview["added"], preview["refused"], api.json("/users")["data"]) == (2, 2, [])
    done = api("POST", "/users/import", content=lines, headers=LINES).json()
    assert (done["added"], done["refused"]) == (2, 2)
    assert [(line["line"], line["rule"]) for line in done["refused_lines"]] == [
        (2, "required"),
        (2, "empty"),
        (3, "json"),
    ]
    assert len(api.json("/users")["data"]) == 2
    again = api("POST", "/users/import", content=lines, headers=LINES).json()
    assert (again["added"], again["changed"], again["unchanged"]) == (0, 0, 2)
    assert api("POST", "/organizations/import", content='{"external_id":"o"}', headers=LINES).json()["added"] == 1
    twice = '{"external_id":"o2"}\n{"external_id":"o3","name":"a","name":"b"}'
    told = api("POST", "/organizations/import", content=twice, headers=LINES).json()
    assert told["added"] == 1
    assert [(line["line"], line["field"], line["rule"]) for line in told["refused_lines"]] == [(2, "name", "repeated")]


def test_what_are_no_json_lines_is_refused(api):
    problem_of(api("POST", "/users/import", json=[]), 415, "unsupported_media_type")
    problem_of(api("POST", "/users/import", content=b"\xff", headers=LINES), 422, "invalid_input")
    problem_of(api("POST", "/users/import", content=b'"' + b"x" * 70_000, headers=LINES), 422, "invalid_input")
    problem_of(api("POST", "/users/import", content=b" " * 1_100_000, headers=LINES), 413, "too_large")


def test_pages_follow_each_other(api):
    ids = [add(api, external_id=f"u{number}")["id"] for number in range(5)]
    first = api.json("/users?limit=2")
    second = api.json(f"/users?limit=2&cursor={first['next_cursor']}")
    last = api.json(f"/users?limit=2&cursor={second['next_cursor']}")
    found = [user["id"] for page in (first, second, last) for user in page["data"]]
    assert (found, last["next_cursor"]) == (ids[::-1], None)


def test_every_change_is_in_the_audit_without_values(api):
    user = add(api, external_id="u1", email="canary@acme.example")
    api("PATCH", f"/users/{user['id']}", json={"display_name": "Canary"})
    api("POST", "/users/import", content='{"external_id":"u2","display_name":"Canary"}', headers=LINES)
    api("DELETE", f"/users/{user['id']}")
    told = api.json("/audit")["data"]
    made = [(entry["actor"], entry["action"]) for entry in told if entry["action"].startswith("user.")]
    assert made == [
        ("token:operator", "user.removed"),
        ("token:operator", "user.imported"),
        ("token:operator", "user.changed"),
        ("token:operator", "user.added"),
    ]
    assert "anary" not in json.dumps(told)


def test_a_call_links_a_chunk_and_leaves_the_rest_to_beat(api, world, monkeypatch):
    monkeypatch.setattr("app.services.linking.waiting.CHUNK", 3)
    world.process(*world.receive(*(auth(connection_id=f"c-{n}", tags={"end_user_id": "u1"}) for n in range(5))))
    assert add(api, external_id="u1")["linked"] == 3
    assert len(world.all(Link)) == 3


def test_what_an_erased_user_was_called_is_null(api, world):
    user_id, now = new_id(), world.clock()
    world.add(User(id=user_id, external_id=" removed x ", removed_at=now, created_at=now))
    assert api.json(f"/users/usr_{user_id.hex}")["external_id"] is None
