"""The API's door: tokens, hosts, strict reading, paging, and answers that always say what is wrong."""

import asyncio
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import select, text, update

from app.db import audit, rejections
from app.db.models import ApiToken, Audit
from app.db.rejections import RefusalCount
from app.domain.access import Scope
from app.domain.states import AuditOutcome
from app.ids import first_id
from app.services import tokens
from app.services.maintenance import upkeep
from app.web.api import pool as pool_module
from app.web.api.authentication import Authenticator
from app.web.api.problems import ApiRefusal
from app.web.api.reading import read_query
from app.web.api.registry import ENDPOINTS
from tests.integration.api.api_client import issue, open_api, problem_of
from tests.integration.web.web_server import body_of
from tests.integration.world import WINDOW
from tests.waiting import PATIENCE, soon, until


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request, broker_url, tmp_path):
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/waylink.db" if sqlite else request.getfixturevalue("postgres_url")
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as client:
        yield client


def note(api, number, *, action="test.done"):
    with api.database.write() as session:
        audit.record(session, actor="cli:test", action=action, subject=f"s-{number}", now=datetime.now(UTC))


def test_without_a_token_nothing_is_shown_but_how_to_get_one(api):
    for headers in ({}, {"authorization": "Basic d2w6"}, {"authorization": "Bearer"}):
        answer = api.get("/audit", who=None, headers=headers)
        assert "waylink token create" in problem_of(answer, 401, "unauthenticated")["detail"]
        assert answer.headers["www-authenticate"] == "Bearer"
    assert api.get("/openapi.json", who=None).status_code == 401


@pytest.mark.parametrize("secret", ["wl_" + "A" * 43, "wl_short", "wl_" + "é" * 43, "x" * 5000])
def test_an_unknown_token_is_refused(api, secret):
    answer = api.get("/audit", who=None, headers={"authorization": f"Bearer {secret}".encode("latin-1")})
    problem_of(answer, 401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert secret not in answer.text


def test_a_revoked_or_expired_token_ends_at_once(api):
    secret = issue(api.database, "brief", Scope.OPERATOR)
    api.secrets["brief"] = secret
    assert api.get("/audit", who="brief").status_code == 200
    with api.database.write() as session:
        session.execute(update(ApiToken).where(ApiToken.name == "brief").values(expires_at=datetime.now(UTC)))
    problem_of(api.get("/audit", who="brief"), 401, "unauthenticated")
    with api.database.write() as session:
        tokens.revoke(session, "operator", actor="cli:test", now=datetime.now(UTC))
    problem_of(api.get("/audit"), 401, "unauthenticated")


def test_the_secret_is_kept_nowhere_and_found_by_its_hash(api):
    secret = api.secrets["operator"]
    with api.database.read() as session:
        rows = list(session.scalars(select(ApiToken)))
        kept = repr([[getattr(row, column.name) for column in ApiToken.__table__.columns] for row in rows])
        kept += repr([(row.actor, row.subject, row.detail) for row in session.scalars(select(Audit))])
    assert secret not in kept
    assert secret.removeprefix("wl_") not in kept
    assert hashlib.sha256(secret.encode()).digest() in {row.hash for row in rows}


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("credentials", 403), ("team", 403), ("operator", 200)])
def test_a_scope_opens_what_it_names_and_no_more(api, who, status):
    answer = api.get("/audit", who=who)
    assert answer.status_code == status
    if status == 403:
        assert "operator" in problem_of(answer, 403, "forbidden")["detail"]
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_last_use_is_known_to_ten_minutes_without_a_write_for_each_call(api):
    def last_used():
        with api.database.read() as session:
            return session.scalar(select(ApiToken.last_used_at).where(ApiToken.name == "operator"))

    assert last_used() is None
    api.get("/audit")
    first = last_used()
    assert first is not None
    api.get("/audit")
    assert last_used() == first
    with api.database.write() as session:
        session.execute(update(ApiToken).values(last_used_at=datetime.now(UTC) - timedelta(minutes=11)))
    api.get("/audit")
    assert last_used() > first


def test_another_host_name_is_refused_and_a_listed_one_is_served(api, broker_url, tmp_path):
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        problem_of(api.get("/audit", headers={"host": host}), 421, "misdirected")
    for host in ("localhost:8080", "LOCALHOST", "[::1]:1", "127.0.0.1"):
        assert api.get("/audit", headers={"host": host}).status_code == 200
    folder = tmp_path / "other"
    folder.mkdir()
    url = f"sqlite:///{folder}/waylink.db"
    listed = {"WAYLINK_ALLOWED_HOSTS": " Waylink.Example ,other"}
    with open_api(database_url=url, broker_url=broker_url, folder=folder, **listed) as other:
        assert other.get("/audit", headers={"host": "waylink.example:443"}).status_code == 200
        assert other.get("/audit", headers={"host": "third"}).status_code == 421


@pytest.mark.parametrize(
    ("query", "field", "rule"),
    [
        ("limti=5", "limti", "unknown"),
        ("limit=0", "limit", "invalid"),
        ("limit=501", "limit", "invalid"),
        ("limit=ten", "limit", "invalid"),
        ("limit=", "limit", "invalid"),
        ("limit=1&limit=2", "limit", "repeated"),
        ("actor[a]=1", "actor", "invalid"),
        ("actor=1&actor[a]=1", "actor[a]", "repeated"),
        ("cursor=nonsense", "cursor", "invalid"),
        ("cursor=", "cursor", "invalid"),
        ("actor=%00", "actor", "unstorable"),
        ("outcome=null", "outcome", "invalid"),
        ("outcome=NULL", "outcome", "invalid"),
    ],
)
def test_a_query_that_is_not_understood_is_refused_by_the_name_of_its_part(api, query, field, rule):
    body = problem_of(api.get(f"/audit?{query}"), 400, "invalid_request")
    [fault] = body["errors"]
    assert (fault["field"], fault["rule"]) == (field, rule)
    assert field in body["detail"]


@pytest.mark.parametrize("endpoint", [one for one in ENDPOINTS if one.query is not None], ids=lambda one: one.name)
def test_no_filter_lets_everything_through_for_the_word_null(endpoint):
    """Only a text can be this word; every other type refuses it."""
    for field in msgspec.structs.fields(endpoint.query):
        try:
            found = read_query(f"{field.encode_name}=null".encode(), endpoint.query)
        except ApiRefusal:
            continue
        assert getattr(found, field.name) == "null"


def test_a_query_that_is_no_text_is_refused(api):
    problem_of(api.get("/audit?actor=%ff"), 400, "invalid_request")
    problem_of(api.get("/audit?" + "&".join(f"a{n}=1" for n in range(200))), 400, "invalid_request")


def test_paging_gives_each_row_once_however_many_are_added_meanwhile(api):
    for number in range(7):
        note(api, number)
    first = api.json("/audit?limit=3&action=test.done")
    assert [row["subject"] for row in first["data"]] == ["s-6", "s-5", "s-4"]
    for number in range(7, 9):
        note(api, number)
    second = api.json(f"/audit?limit=3&action=test.done&cursor={first['next_cursor']}")
    third = api.json(f"/audit?limit=3&action=test.done&cursor={second['next_cursor']}")
    assert [row["subject"] for row in second["data"] + third["data"]] == ["s-3", "s-2", "s-1", "s-0"]
    assert third["next_cursor"] is None
    assert api.json("/audit?limit=9&action=test.done")["next_cursor"] is None


def test_what_is_asked_of_the_audit_is_what_comes(api):
    note(api, 1)
    [row] = api.json("/audit?subject=s-1")["data"]
    assert (row["actor"], row["action"], row["outcome"], row["detail"]) == ("cli:test", "test.done", "done", {})
    made = api.json("/audit?action=token.created")["data"]
    names = {"viewer", "operator", "credentials", "team", "team-viewer", "everything"}
    assert {row["detail"]["name"] for row in made} == names
    assert api.json("/audit?actor=token:nobody")["data"] == []
    with api.database.write() as session:
        audit.record(session, actor="a", action="b.c", subject="s", now=datetime.now(UTC), outcome=AuditOutcome.BEGUN)
    assert [row["subject"] for row in api.json("/audit?outcome=begun")["data"]] == ["s"]
    problem_of(api.get("/audit?outcome=odd"), 400, "invalid_request")


def test_the_audit_is_kept_for_a_year(api):
    old = datetime.now(UTC) - timedelta(days=366)
    with api.database.write() as session:
        row = audit.record(session, actor="a", action="old.done", subject="s", now=old)
        session.execute(update(Audit).where(Audit.id == row).values(id=first_id(old)))
    note(api, 1)
    upkeep.prune(api.database, window=WINDOW, clock=lambda: datetime.now(UTC))
    assert api.json("/audit?action=old.done")["data"] == []
    assert len(api.json("/audit?action=test.done")["data"]) == 1


def test_refused_webhooks_are_listed_and_paged_without_ids(api):
    now = datetime.now(UTC)
    refused = [("default", "no_signature"), ("default", "bad_signature"), ("", "unknown_environment")]
    with api.database.write() as session:
        rejections.add(session, [RefusalCount(minute, cause, 401, 1, now, "peer", "") for minute, cause in refused])
    first = api.json("/rejections?limit=1")
    second = api.json("/rejections", params={"limit": 2, "cursor": first["next_cursor"]})
    shown = [(row["environment"] or "", row["cause"]) for row in first["data"] + second["data"]]
    assert shown == refused
    assert second["next_cursor"] is None
    assert len(api.json("/rejections?cause=no_signature")["data"]) == 1
    problem_of(api.get("/rejections?cursor=a~b~c"), 400, "invalid_request")


def test_an_unknown_path_or_method_is_a_problem_too(api):
    answer = api.get("/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    answer = api("DELETE", "/audit")
    assert (answer.status_code, "GET" in answer.headers["allow"]) == (405, True)
    assert api("HEAD", "/audit").status_code == 200


def test_without_its_database_it_says_so_and_to_come_back(broker_url, postgres, postgres_url, tmp_path):
    with open_api(database_url=postgres_url, broker_url=broker_url, folder=tmp_path) as api:
        postgres.stop()
        try:
            answer = api.get("/audit")
            problem_of(answer, 503, "database_away")
            assert answer.headers["retry-after"] == "5"
        finally:
            postgres.start()
        assert api.get("/audit").status_code == 200


def test_a_fault_of_ours_is_answered_and_shows_nothing_of_its_inside(api, monkeypatch):
    def break_down(*_arguments, **_options):
        raise ValueError("secret inside")

    monkeypatch.setattr(audit, "listed", break_down)
    answer = api.get("/audit")
    problem_of(answer, 500, "fault")
    assert "secret inside" not in answer.text


def test_more_calls_than_can_wait_get_a_retry_after_and_webhooks_are_taken_meanwhile(api, monkeypatch):
    monkeypatch.setattr(pool_module, "MAX_WAITING", 2)
    came, access = [], Authenticator.access
    monkeypatch.setattr(Authenticator, "access", lambda door, request: came.append(request) or access(door, request))
    with api.database.write() as session:
        # Each request that notes a first use waits for this lock, or on SQLite for the write lock.
        session.execute(text("UPDATE api_tokens SET name = name"))
        with ThreadPoolExecutor(24) as pool:
            calls = [pool.submit(api.get, "/audit") for _ in range(24)]
            if not api.database.is_sqlite:
                assert api.web.post(body_of(1)).status_code == 202
            until("all are at the door", lambda: len(came) == len(calls))
            session.rollback()
            answers = [call.result(PATIENCE) for call in calls]
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            problem_of(answer, 503, "busy")
            assert answer.headers["retry-after"] == "1"
    assert api.web.post(body_of(2)).status_code == 202


def test_a_call_that_waited_too_long_is_not_begun(monkeypatch):
    monkeypatch.setattr(pool_module, "LONGEST_WAIT", 0.05)
    pool, done, go = pool_module.CallPool(1, "test"), [], threading.Event()

    async def call():
        first = asyncio.create_task(pool.run(lambda: done.append("first") or go.wait(PATIENCE)))
        await soon("it has begun", lambda: done)
        second = asyncio.create_task(pool.run(lambda: done.append("second")))
        await asyncio.sleep(0.1)
        go.set()
        with pytest.raises(pool_module.ApiRefusal) as refused:
            await second
        await first
        await pool.run(lambda: done.append("third"))
        return refused.value

    refused = asyncio.run(call())
    pool.close()
    assert (refused.kind.word, refused.headers, done) == ("busy", {"retry-after": "1"}, ["first", "third"])


def test_every_answer_forbids_keeping_and_guessing(api):
    for answer in (api.get("/audit"), api.get("/audit", who=None), api.get("/openapi.json")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_settings_in_force_are_shown_without_secrets(api):
    rows = {row["variable"]: row for row in api.json("/settings", who="viewer")["data"]}
    assert rows["WAYLINK_DATABASE_URL"]["set"] is True
    assert rows["WAYLINK_KEEP_EVENTS"]["value"] == "30d"
    problem_of(api.get("/settings", who="team"), 403, "forbidden")


def test_the_processes_of_the_installation_are_listed_by_kind(api):
    until("web has reported", lambda: api.json("/processes", who="viewer")["data"])
    [web] = api.json("/processes?kind=web", who="viewer")["data"]
    assert (web["kind"], web["state"]) == ("web", "running")
    assert api.json("/processes?kind=beat")["data"] == []
    problem_of(api.get("/processes?kind=x"), 400, "invalid_request")
