"""Calls of the API with idempotency keys, and changes that another one would have undone, on both databases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from app.db.models import IdempotentCall
from app.ids import USER, parse
from app.sealing import new_key
from app.services import idempotency
from app.services.idempotency import fingerprint_of
from app.services.maintenance import upkeep
from app.services.people import erasure, records
from app.web.api.registry import ENDPOINTS
from tests.integration.api.api_client import open_api, problem_of
from tests.integration.world import WINDOW
from tests.waiting import PATIENCE

KEY = {"idempotency-key": "9f1c0f62-3a1e-4a6e-9f0e-2f4f6f3c1c11"}


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    key = new_key()
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path, WAYLINK_SECRET_KEY=key) as client:
        yield client


def kept(api):
    with api.database.read() as session:
        return list(session.scalars(select(IdempotentCall)))


def change_kept(api, **values):
    with api.database.write() as session:
        session.execute(update(IdempotentCall).values(**values))


def users(api):
    return [user["external_id"] for user in api.json("/users")["data"]]


def test_a_call_is_carried_out_once_and_answered_as_before(api):
    first = api("POST", "/users", json={"external_id": "u1"}, headers=KEY)
    again = api("POST", "/users", json={"external_id": "u1"}, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert users(api) == ["u1"]
    quoted = {"idempotency-key": f'"{KEY["idempotency-key"]}"'}
    assert api("POST", "/users", json={"external_id": "u1"}, headers=quoted).json() == first.json()


def test_a_call_without_a_body_in_its_answer_is_repeated_too(api):
    api("POST", "/destinations", json={"team": "crm", "name": "hook", "kind": "http", "url": "https://crm.example/in"})
    api("POST", "/destinations/crm/hook/rotate-secret")
    oldest = api.json("/destinations/crm/hook/secrets")["data"][-1]["id"]
    path = f"/destinations/crm/hook/secrets/{oldest}"
    assert api("DELETE", path, headers=KEY).status_code == 204
    ended = api.json("/destinations/crm/hook/secrets")
    again = api("DELETE", path, headers=KEY)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (204, "true")
    assert api.json("/destinations/crm/hook/secrets") == ended


def test_a_key_belongs_to_one_call_of_one_caller(api):
    api("POST", "/users", json={"external_id": "u1"}, headers=KEY)
    for method, path, body in (
        ("POST", "/users", {"external_id": "u2"}),
        ("POST", "/organizations", {"external_id": "u1"}),
        ("POST", "/users?", {"external_id": "u1", "email": None}),
    ):
        problem_of(api(method, path, json=body, headers=KEY), 422, "idempotency_key_reused")
    assert users(api) == ["u1"]
    assert api("POST", "/users", json={"external_id": "u2"}, headers=KEY, who="everything").status_code == 201


def test_a_refused_call_leaves_its_key_free(api):
    problem_of(api("POST", "/users", json={"external_id": "u", "organization": "o"}, headers=KEY), 422, "invalid_input")
    assert kept(api) == []
    api("POST", "/organizations", json={"external_id": "o"})
    assert api("POST", "/users", json={"external_id": "u", "organization": "o"}, headers=KEY).status_code == 201


def test_concurrent_calls_with_one_key_are_one(api, monkeypatch):
    began, go_on = threading.Event(), threading.Event()
    add = records.add

    def slow(*arguments, **options):
        began.set()
        assert go_on.wait(PATIENCE)
        return add(*arguments, **options)

    # On SQLite the transaction that the call has open would hold the claim of the second one up.
    if api.database.engine.dialect.name == "postgresql":
        monkeypatch.setattr(records, "add", slow)
    else:
        change = idempotency.IdempotentCalls._begin

        def slow_claim(self, *arguments, **options):
            found = change(self, *arguments, **options)
            if found is None:
                began.set()
                assert go_on.wait(PATIENCE)
            return found

        monkeypatch.setattr(idempotency.IdempotentCalls, "_begin", slow_claim)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(api, "POST", "/users", json={"external_id": "u1"}, headers=KEY)
        assert began.wait(PATIENCE)
        meanwhile = api("POST", "/users", json={"external_id": "u1"}, headers=KEY)
        go_on.set()
        assert first.result().status_code == 201
    refused = problem_of(meanwhile, 409, "conflict")
    assert "under way" in refused["detail"]
    assert 1 <= int(meanwhile.headers["retry-after"]) <= 5
    assert api("POST", "/users", json={"external_id": "u1"}, headers=KEY).json() == first.result().json()


def test_a_call_whose_end_is_not_known_is_not_repeated(api):
    api("POST", "/users", json={"external_id": "u1"}, headers=KEY)
    # As the process left it that ended in between.
    change_kept(api, status=None, answer=None, held_until=datetime.now(UTC) - timedelta(seconds=1))
    answer = api("POST", "/users", json={"external_id": "u1"}, headers=KEY)
    refused = problem_of(answer, 409, "conflict")
    assert "did not end" in refused["detail"]
    assert "retry-after" not in answer.headers


def test_an_answer_with_a_secret_is_not_kept_and_its_body_in_no_form(api):
    body = {"team": "crm", "name": "hook", "kind": "http", "url": "https://crm.example/in"}
    secret = api("POST", "/destinations", json=body, headers=KEY).json()["secret"]
    assert secret.startswith("whsec_")
    refused = problem_of(api("POST", "/destinations", json=body, headers=KEY), 409, "conflict")
    assert "not kept" in refused["detail"]
    assert refused["found"] == {"status": 201}
    [call] = kept(api)
    assert call.answer is None
    assert call.fingerprint == fingerprint_of(b"POST", b"/api/v1/destinations", b"", b"")


def test_each_endpoint_whose_answer_may_hold_a_secret_says_so():
    declared = {f"{endpoint.method} {endpoint.template}" for endpoint in ENDPOINTS if endpoint.holds_secret}
    assert declared >= {
        "POST /connect-sessions",
        "POST /connections/{con_id}/reconnect-sessions",
        "POST /destinations",
        "PATCH /destinations/{team}/{destination}",
        "POST /destinations/{team}/{destination}/rotate-secret",
    }
    telling = {"secret", "token", "password", "broker_url", "connect_link"}
    named = {
        f"{endpoint.method} {endpoint.template}"
        for endpoint in ENDPOINTS
        for shape in (endpoint.body, endpoint.answer)
        if endpoint.writes and telling & set(getattr(shape, "__struct_fields__", ()))
    }
    assert named
    assert named <= declared


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, '"'])
def test_a_key_that_is_none_is_refused(api, key):
    answer = api("POST", "/users", json={"external_id": "u1"}, headers={"idempotency-key": key.encode()})
    assert problem_of(answer, 400, "invalid_request")["errors"][0]["field"] == "idempotency-key"
    assert users(api) == []


def test_kept_calls_go_after_a_day_and_answers_with_an_erasure(api):
    user = api("POST", "/users", json={"external_id": "u1", "email": "a@b.example"}, headers=KEY).json()
    [call] = kept(api)
    assert "a@b.example" in call.answer
    erasure.erase(api.database, parse(USER, user["id"]), force=False, actor="cli:test", clock=lambda: datetime.now(UTC))
    [call] = kept(api)
    assert (call.status, call.answer) == (201, None)
    upkeep.prune(api.database, window=WINDOW, clock=lambda: datetime.now(UTC) + timedelta(hours=23))
    assert len(kept(api)) == 1
    upkeep.prune(api.database, window=WINDOW, clock=lambda: datetime.now(UTC) + timedelta(hours=25))
    assert kept(api) == []


def test_a_change_of_what_another_one_changed_is_refused(api):
    user = api("POST", "/users", json={"external_id": "u1"}).json()
    path = f"/users/{user['id']}"
    seen = {"updated_at": user["updated_at"] or user["created_at"]}
    changed = api("PATCH", path, params=seen, json={"display_name": "One"}).json()
    refused = problem_of(api("PATCH", path, params=seen, json={"display_name": "Two"}), 409, "conflict")
    assert refused["found"] == {"updated_at": changed["updated_at"]}
    assert api.json(path)["display_name"] == "One"
    latest = {"updated_at": changed["updated_at"]}
    assert api("PATCH", path, params=latest, json={"display_name": "Two"}).json()["display_name"] == "Two"
    organization = api("POST", "/organizations", json={"external_id": "o1"}).json()
    wrong = {"updated_at": "2001-01-01T00:00:00+00:00"}
    problem_of(api("PATCH", f"/organizations/{organization['id']}", params=wrong, json={"name": "x"}), 409, "conflict")
