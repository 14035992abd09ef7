"""Reads of credentials, which refresh them as in Nango (Nango contract: When a token is refreshed)."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.sandbox import credentials, serialization
from app.sandbox.context import Sandbox
from app.sandbox.entities import AuthFailure, SandboxConnection
from app.sandbox.faults import Operation, Rule
from app.sandbox.webhooks import AuthWebhook
from app.sandbox.wire import RefusedError

MARGIN: Final = timedelta(minutes=15)
COOL_DOWN: Final = timedelta(seconds=30)
FAILING_DAYS: Final = 4

_PROVIDER_ERROR: Final = "The external API returned an error when trying to refresh the access token."
_FAILURES: Final = {"OAUTH2_CC": ("client_credentials_fetch_error", "Failed to fetch client credentials token")}
_FAILURE: Final = ("refresh_token_external_error", f"{_PROVIDER_ERROR} Please try again later.")


def read(
    sandbox: Sandbox, connection: SandboxConnection, *, force: bool, now: datetime
) -> tuple[SandboxConnection, tuple[AuthWebhook, ...]]:
    """The connection of a GET, refreshed if that was due or forced, and the resulting webhooks.

    Raises RefusedError `invalid_credentials`: 424 within 30 s of a failure and once given up, unless forced; 400 for a
    refresh that failed now.
    """
    connection = sandbox.store.touch(connection, now=now)
    if not force and (trouble := connection.trouble):
        if trouble.exhausted:
            raise _refused(connection, 424, "The refresh limit has been reached for this connection.")
        if now - trouble.failed_at < COOL_DOWN:
            raise _refused(connection, 424, "A recent refresh attempt failed. Backing off before retrying.")
    if not credentials.can_refresh(connection.credentials) or not (force or _is_due(connection, now)):
        return connection, ()
    integration, connection_id = connection.integration, connection.connection_id
    if rule := sandbox.faults.match(Operation.REFRESH, integration=integration, connection_id=connection_id):
        raise _failed(sandbox, connection, rule, now=now)
    return _renewed(sandbox, connection, now=now)


def log_id() -> str:
    return secrets.token_hex(10)


def _is_due(connection: SandboxConnection, now: datetime) -> bool:
    """Whether a refresh is due: never without an expiry, always for a token that lives under 15 minutes."""
    expiry = credentials.expires_at(connection.credentials)
    return expiry is not None and expiry - now < MARGIN


def _renewed(
    sandbox: Sandbox, connection: SandboxConnection, *, now: datetime
) -> tuple[SandboxConnection, tuple[AuthWebhook, ...]]:
    fresh = credentials.mint(
        connection.auth_mode, now=now, lifetime=sandbox.token_lifetime, given=connection.credentials
    )
    renewed = sandbox.store.put(replace(connection, credentials=fresh, trouble=None, updated_at=now), now=now)
    # Newer Nango sends one webhook when an active auth error is over, and none for routine refreshes
    # (Nango contract: When auth webhooks are sent).
    recovered = connection.trouble is not None and sandbox.recovery_events
    return renewed, (sandbox.event(renewed, "refresh"),) if recovered else ()


def _failed(sandbox: Sandbox, connection: SandboxConnection, rule: Rule, *, now: datetime) -> RefusedError:
    kind, message = _FAILURES.get(connection.auth_mode, _FAILURE)
    message = rule.message or message
    failing = sandbox.store.put(replace(connection, trouble=_worse(connection.trouble, now)), now=now)
    event = sandbox.event(failing, "refresh", error={"type": kind, "description": message})
    return _refused(failing, rule.status or 400, message, event)


def _worse(trouble: AuthFailure | None, now: datetime) -> AuthFailure:
    """The error after one more failure. Attempts count calendar days; the fourth is final
    (Nango contract: Failed refreshes).
    """
    if trouble is None:
        return AuthFailure(failed_at=now, attempts=1, exhausted=False, log_id=log_id())
    attempts = max(trouble.attempts, 1) + (trouble.failed_at.date() < now.date())
    return replace(trouble, failed_at=now, attempts=attempts, exhausted=trouble.exhausted or attempts >= FAILING_DAYS)


def _refused(connection: SandboxConnection, status: int, message: str, *events: AuthWebhook) -> RefusedError:
    payload = {"connection": serialization.full(connection, {})}
    return RefusedError(status, "invalid_credentials", message, payload=payload, events=events)
