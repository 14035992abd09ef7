"""Signing keys and no API key: a real server's webhooks, byte for byte, and what is refused (promises 2 and 4)."""

import base64
import http.client
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.domain.signature import HEADER, sign
from tests.acceptance.harness import RECORDED, Process, Waylink, installation, until
from tests.waiting import PATIENCE

# Not by splitlines(): bodies hold U+2028.
WEBHOOKS = [json.loads(line) for line in RECORDED.read_text().split("\n") if line]
DEV, PROD = dict.fromkeys(webhook["signing_secret"] for webhook in WEBHOOKS)
CONFIG = """
[environments.default]
signing_keys_env = "DEV_SIGNING_KEYS"

[environments.prod]
signing_keys_env = "PROD_SIGNING_KEYS"
"""
BODY_LIMIT = 10_000


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Waylink, Process]]:
    keys = {"DEV_SIGNING_KEYS": f"a-key-to-come,{DEV}", "PROD_SIGNING_KEYS": PROD}
    with installation(config=CONFIG, WAYLINK_BODY_LIMIT_BYTES=str(BODY_LIMIT), **keys) as waylink:
        yield waylink, waylink.up()


def test_recorded_webhooks_are_stored_and_linked_as_their_tags_say(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    events: dict[str, dict[str, Any]] = {}
    for webhook in WEBHOOKS:
        status, _, answer = _as_recorded(waylink, webhook)
        assert status == 202, (webhook["scenario"], answer)
        assert not answer["duplicate"]
        events[answer["event_id"]] = webhook
    assert len(events) == len(WEBHOOKS) == 21

    def all_processed() -> dict[str, dict[str, Any]] | None:
        rows = {row["id"]: row for row in waylink.listing("events", "--origin", "webhook", "--limit", "1000")}
        return rows if all(rows[event]["state"] != "received" for event in events) else None

    rows = until("all are processed", all_processed, every=0.3)
    for event_id, webhook in events.items():
        row, body = rows[event_id], _body(webhook)
        assert row["state"] == "processed", row
        assert not row["confirmed"]
        assert row["environment"] == _environment(webhook)
        assert (row["connection_id"], row["integration"]) == (body["connectionId"], body["providerConfigKey"])
        assert row["tags"] == body.get("tags")
        assert row["type"] == _type(webhook)
        assert bytes.fromhex(_stored(waylink, event_id)) == base64.b64decode(webhook["body_b64"])
    _check_connections(waylink)


def _check_connections(waylink: Waylink) -> None:
    linking = [webhook for webhook in WEBHOOKS if _body(webhook)["success"]]
    latest = {(_environment(webhook), _body(webhook)["connectionId"]): _body(webhook) for webhook in linking}
    rows = {
        (connection["environment"], connection["connection_id"]): connection
        for connection in waylink.listing("connections")
    }
    assert rows.keys() == latest.keys()
    for key, body in latest.items():
        row, tags = rows[key], body.get("tags") or {}
        owner = (tags.get("end_user_id"), tags.get("organization_id"))
        assert (row["user"], row["organization"]) == owner
        assert row["linked_by"] == ("end_user_id" if owner[0] else None)
        assert row["unlinked_reason"] == (None if owner[0] else "no_owner_tags")
        assert row["tags"] == tags
        assert row["status"] == "unconfirmed"
        assert row["refresh_at"] is None
    assert {row["user"] for row in rows.values()} == {None, "tag-wins", "eu-1", "eu-r"}
    assert waylink.sql("SELECT count(*) FROM refreshes") == [(0,)]


def _type(webhook: dict[str, Any]) -> str:
    body = _body(webhook)
    match body["operation"], body["success"]:
        case "creation", True:
            return "connection.created"
        case "override", True:
            return "connection.reauthorized"
        case "refresh", False:
            return "connection.refresh_failed"
    # Nango labels a failed re-authorization `creation` too (Nango contract: When auth webhooks are sent): only what
    # came before distinguishes them.
    known = {
        _body(earlier)["connectionId"]
        for earlier in WEBHOOKS
        if earlier["seq"] < webhook["seq"] and _body(earlier)["success"]
    }
    return f"connection.{'reauthorization' if body['connectionId'] in known else 'creation'}_failed"


def test_check_and_up_say_that_nothing_is_confirmed_or_refreshed(running: tuple[Waylink, Process]) -> None:
    waylink, process = running
    assert "signing keys only: nothing is confirmed with Nango, no token is refreshed" in process.output
    assert process.child("sandbox") is None
    done = waylink.run("check", "--json")
    assert done.returncode == 0
    findings = {row["what"]: row for row in json.loads(done.stdout)}
    for name, keys in (("default", 2), ("prod", 1)):
        finding = findings[f"environment {name}"]
        assert finding["result"] == "note"
        assert f"{keys} signing key{'' if keys == 1 else 's'}, no API key: nothing is confirmed" in finding["detail"]
    assert DEV not in done.stdout + process.output
    assert PROD not in done.stdout + process.output


def test_a_repeated_delivery_is_one_event(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    body = _fresh()
    first, second = waylink.post(body, DEV).json(), waylink.post(body, DEV).json()
    assert second == {"event_id": first["event_id"], "duplicate": True}
    assert not first["duplicate"]
    elsewhere = waylink.post(body, PROD, environment="prod").json()
    assert not elsewhere["duplicate"]
    until("counted", lambda: waylink.show("events", first["event_id"])["duplicates"] == 1, every=0.3)


def test_only_a_live_key_of_the_environment_gets_in(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    before = waylink.sql("SELECT count(*) FROM events WHERE origin = 'webhook'")
    body = _fresh()
    legacy = {"x-nango-signature": "f306ede58103bd8e1886aa217d2408e946e4be0b14cb16b4aaa178a4e59427db"}
    recorded = WEBHOOKS[0]
    legacy_only = [pair for pair in recorded["headers"] if pair[0] != "X-Nango-Hmac-Sha256"]
    assert waylink.post(body, "another-key").status_code == 401
    assert waylink.post(body, PROD).status_code == 401
    assert waylink.post(body, DEV, environment="prod").status_code == 401
    assert waylink.post(body, DEV, headers=legacy).status_code == 401
    assert waylink.post(body, DEV, headers={}).status_code == 401
    assert waylink.post(body + b" ", DEV, headers={HEADER: sign(body, DEV)}).status_code == 401
    assert _as_recorded(waylink, recorded | {"headers": legacy_only})[0] == 401
    assert waylink.post(body, DEV, environment="staging").status_code == 404
    assert waylink.sql("SELECT count(*) FROM events WHERE origin = 'webhook'") == before


def test_a_body_that_is_too_large_is_refused_before_it_is_read(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    body = b" " * (BODY_LIMIT + 1)
    headers = {HEADER: sign(body, DEV)}
    assert waylink.post(body, DEV).status_code == 413
    declared = [*headers.items(), ("Content-Length", str(10**9))]
    assert _request(waylink, "/webhooks/nango", declared, b"")[0] == 413
    chunked = waylink.http.post("/webhooks/nango", content=(b" " * 1000 for _ in range(1000)), headers=headers)
    assert chunked.status_code == 413
    fits = _fresh().ljust(BODY_LIMIT)
    assert waylink.post(fits, DEV).status_code == 202
    assert waylink.http.post("/webhooks/nango", content=iter([fits]), headers={HEADER: sign(fits, DEV)}).json()[
        "duplicate"
    ]


@pytest.mark.parametrize(
    "path", ["/webhooks/nango", "/webhooks/nango/", "/webhooks/nango/prod", "/webhooks/nango/prod/"]
)
def test_nothing_is_ever_redirected(running: tuple[Waylink, Process], path: str) -> None:
    """Nango follows a redirect with a GET and retries neither it nor a 404: a slash too many must lose nothing."""
    waylink, _ = running
    body = _fresh()
    key = PROD if "prod" in path else DEV
    assert waylink.http.post(path, content=body, headers={HEADER: sign(body, key)}).status_code == 202
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = waylink.http.request(method, path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, "POST"), method


def test_what_is_signed_but_not_understood_is_kept(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    bodies = [f"[{time.time_ns()}]", f"{time.time_ns()}", f'{{"a": {time.time_ns()}', f'"{time.time_ns()}"']
    answers = [waylink.post(body.encode(), DEV) for body in bodies]
    assert [answer.status_code for answer in answers] == [202] * len(bodies)
    kept = {answer.json()["event_id"] for answer in answers}

    def all_processed() -> bool:
        rows = waylink.listing("events", "--type", "nango.unhandled", "--state", "processed")
        return kept <= {row["id"] for row in rows}

    until("processed", all_processed, every=0.3)


def _fresh() -> bytes:
    """A webhook that was not sent before, of a connection in none of the recordings."""
    body = _body(WEBHOOKS[0]) | {"connectionId": f"fresh-{time.time_ns()}"}
    return json.dumps(body, separators=(",", ":")).encode()


def _body(webhook: dict[str, Any]) -> dict[str, Any]:
    return json.loads(base64.b64decode(webhook["body_b64"]))


def _environment(webhook: dict[str, Any]) -> str:
    return "default" if webhook["signing_secret"] == DEV else "prod"


def _stored(waylink: Waylink, event_id: str) -> str:
    rows = waylink.sql("SELECT hex(body) FROM events WHERE id = :id", id=event_id.removeprefix("evt_"))
    return rows[0][0]


def _as_recorded(waylink: Waylink, webhook: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Post it with its own headers in their own order, `Host` and `Connection` included."""
    path = "/webhooks/nango" + ("/prod" if webhook["signing_secret"] == PROD else "")
    return _request(waylink, path, webhook["headers"], base64.b64decode(webhook["body_b64"]))


def _request(
    waylink: Waylink, path: str, headers: list[tuple[str, str]], body: bytes
) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", waylink.port, timeout=PATIENCE)
    try:
        connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if not any(name.lower() == "host" for name, _ in headers):
            connection.putheader("Host", "waylink")
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), json.loads(answer.read())
    finally:
        connection.close()
