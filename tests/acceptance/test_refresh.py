"""A token is renewed before it expires, and no credential stays anywhere (promises 7 and 8)."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.acceptance.harness import Sandbox, Waylink, creation, installation, until

TOKEN = re.compile(rb"sandbox-[a-z-]+-[0-9a-f]{64}")
NANGO_ITSELF = {"sandbox.json", "sandbox-state.json"}  # the sandbox's own files: it is Nango's side


@pytest.fixture(params=["embedded", "PostgreSQL and Valkey"])
def waylink(request: pytest.FixtureRequest) -> Iterator[Waylink]:
    given = {"WAYLINK_DATABASE_URL": "postgres_url", "WAYLINK_BROKER_URL": "broker_url"}
    embedded = request.param == "embedded"
    urls = {} if embedded else {name: request.getfixturevalue(fixture) for name, fixture in given.items()}
    with installation(example=True, WAYLINK_LOG_LEVEL="debug", **urls) as waylink:
        waylink.up("--no-scenario")
        yield waylink


def test_a_refresh_runs_and_leaves_no_credential_behind(waylink: Waylink) -> None:
    sandbox = waylink.sandbox()
    body = creation(1)
    sandbox.register(body)
    assert waylink.post(body, sandbox.signing_key).status_code == 202
    connection = until("linked, a first refresh planned", lambda: _planned(waylink), every=0.3)
    tokens = [_token(sandbox, connection)]

    looked = _refresh_now(waylink, connection, after=0)
    assert looked["refreshes"][1]["outcome"] == "first_seen"
    assert _seconds_left(looked) == pytest.approx(3600, abs=300)

    # Five minutes before the expiry: within Nango's 15, so that a plain GET renews
    # (Nango contract: When a token is refreshed).
    path = f"/sandbox/connections/{connection['connection_id']}?provider_config_key=oauth2"
    sandbox.call("PATCH", path, json={"expires_in": 300})
    renewed = _refresh_now(waylink, connection, after=1)
    assert renewed["refreshes"][1]["outcome"] == "renewed"
    assert renewed["refreshes"][1]["error"] is None
    assert _seconds_left(renewed) == pytest.approx(3600, abs=300)
    ahead = datetime.fromisoformat(renewed["expires_at"]) - datetime.fromisoformat(renewed["refresh_at"])
    assert timedelta(minutes=10) <= ahead <= timedelta(minutes=14)
    tokens.append(_token(sandbox, connection))
    assert tokens[0] != tokens[1]

    # A provider that refuses: recorded, scrubbed, planned again.
    sandbox.call("PATCH", path, json={"expires_in": 300})
    sandbox.call("POST", "/sandbox/faults", json={"operation": "refresh"})
    failed = _refresh_now(waylink, connection, after=2)
    assert failed["refreshes"][1]["outcome"] == "failed"
    assert failed["refreshes"][1]["error"]
    assert (failed["status"], bool(failed["refresh_at"])) == ("active", True)
    _check_that_nothing_leaked(waylink, sandbox, tokens)


def _planned(waylink: Waylink) -> dict[str, Any] | None:
    return next((connection for connection in waylink.listing("connections") if connection["refresh_at"]), None)


def _refresh_now(waylink: Waylink, connection: dict[str, Any], *, after: int) -> dict[str, Any]:
    """Make the plan due at once; the connection as shown when it has run and the next one stands.

    By hand, because the first refresh comes half a minute or more after linking and the next an hour later: only the
    time is moved, Beat and the io worker do the rest.
    """
    ref = connection["id"].removeprefix("con_")
    now = datetime.now(UTC)
    moved = waylink.sql(
        "UPDATE refreshes SET next_at = :now WHERE connection_ref = :ref AND finished_at IS NULL RETURNING id",
        now=now.replace(tzinfo=None).isoformat(" "),
        ref=ref,
    )
    assert len(moved) == 1

    def refreshed() -> dict[str, Any] | None:
        shown = waylink.show("connections", connection["id"])
        finished = [refresh for refresh in shown["refreshes"] if refresh["finished_at"]]
        return shown if len(finished) > after else None

    shown = until("carried out", refreshed, every=0.3)
    assert shown["refreshes"][0]["finished_at"] is None
    assert shown["refresh_at"] == shown["refreshes"][0]["refresh_at"]
    assert datetime.fromisoformat(shown["refresh_at"]) > now
    return shown


def _seconds_left(connection: dict[str, Any]) -> float:
    return (datetime.fromisoformat(connection["expires_at"]) - datetime.now(UTC)).total_seconds()


def _token(sandbox: Sandbox, connection: dict[str, Any]) -> bytes:
    path = f"/connections/{quote(connection['connection_id'])}?provider_config_key=oauth2"
    token = sandbox.call("GET", path)["credentials"]["access_token"].encode()
    assert TOKEN.fullmatch(token)  # or the search below would be blind
    return token


def _check_that_nothing_leaked(waylink: Waylink, sandbox: Sandbox, tokens: list[bytes]) -> None:
    """Logs at debug; and, where they are the embedded ones, the database with its write-ahead log, and the broker's
    append-only file.
    """
    files = [path for path in waylink.folder.rglob("*") if path.is_file() and path.name not in NANGO_ITSELF]
    names = {file.name for file in files}
    assert "0-up.log" in names
    if "WAYLINK_DATABASE_URL" not in waylink.env:
        assert {"waylink.db", "waylink.db-wal"} <= names
        assert any(name.startswith("appendonly.aof") and name.endswith(".aof") for name in names)
    secrets = [sandbox.api_key.encode(), sandbox.signing_key.encode(), *(token[-64:] for token in tokens)]
    for file in files:
        content = file.read_bytes()
        assert not TOKEN.search(content), file
        assert not any(secret in content for secret in secrets), file
    log = (waylink.folder / "0-up.log").read_text()
    assert "tokens_refreshed" in log
    assert "refresh_failed" in log
