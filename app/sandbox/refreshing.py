"""Reads of credentials, which refresh them as in Nango (Nango contract: When a token is refreshed)."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.sandbox import credentials, grants, issuing, serialization
from app.sandbox.context import Sandbox
from app.sandbox.entities import AuthFailure, SandboxConnection, SandboxIntegration
from app.sandbox.faults import Operation
from app.sandbox.grants import Renewing
from app.sandbox.webhooks import AuthWebhook
from app.sandbox.wire import RefusedError

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
    integration = sandbox.integration(connection.integration)
    is_due = force or _is_due(connection, integration, now)
    if not credentials.can_refresh(connection.credentials) or not is_due:
        return connection, ()
    key, connection_id = connection.integration, connection.connection_id
    if rule := sandbox.faults.match(Operation.REFRESH, integration=key, connection_id=connection_id, now=now):
        raise _failed(sandbox, connection, status=rule.status, message=rule.message, now=now)
    grant, refused = issuing.grant_of(connection), None
    if token := connection.credentials.get("refresh_token"):
        grant, refused = grants.present(integration.tokens, grant, token=token, now=now)
    connection = replace(connection, grant=grant)
    if refused:
        raise _failed(sandbox, connection, now=now)
    return _renewed(sandbox, connection, integration, now=now)


def log_id() -> str:
    return secrets.token_hex(10)


def _is_due(connection: SandboxConnection, integration: SandboxIntegration, now: datetime) -> bool:
    rules, expires_at = integration.tokens, credentials.expires_at(connection.credentials)
    if rules.renews is Renewing.INTROSPECTED:
        expires_at = issuing.grant_of(connection).expires_at
    return grants.is_due(rules, expires_at, now=now)


def _renewed(
    sandbox: Sandbox, connection: SandboxConnection, integration: SandboxIntegration, *, now: datetime
) -> tuple[SandboxConnection, tuple[AuthWebhook, ...]]:
    fresh, grant = issuing.issue(
        integration,
        now=now,
        lifetime=issuing.lifetime_of(sandbox, integration),
        given=connection.credentials,
        grant=issuing.grant_of(connection),
    )
    changed = replace(connection, credentials=fresh, grant=grant, trouble=None, updated_at=now)
    renewed = sandbox.store.put(changed, now=now)
    # Newer Nango sends one webhook when an active auth error is over, and none for routine refreshes
    # (Nango contract: When auth webhooks are sent).
    recovered = connection.trouble is not None and sandbox.recovery_events
    return renewed, (sandbox.event(renewed, "refresh"),) if recovered else ()


def _failed(
    sandbox: Sandbox,
    connection: SandboxConnection,
    *,
    status: int | None = None,
    message: str | None = None,
    now: datetime,
) -> RefusedError:
    """The answer after a refusal of the provider: the same one for each reason (Nango contract: Failed refreshes)."""
    kind, usual = _FAILURES.get(connection.auth_mode, _FAILURE)
    message = message or usual
    failing = sandbox.store.put(replace(connection, trouble=_worse(connection.trouble, now)), now=now)
    event = sandbox.event(failing, "refresh", error={"type": kind, "description": message})
    return _refused(failing, status or 400, message, event)


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
