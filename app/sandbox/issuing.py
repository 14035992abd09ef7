"""Token responses of the providers behind a sandbox, by the rules of each integration."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from app.sandbox import credentials as credential_rules
from app.sandbox import grants
from app.sandbox.context import Sandbox
from app.sandbox.entities import SandboxConnection, SandboxIntegration
from app.sandbox.grants import Grant, Renewing, TokenRules, Told
from app.sandbox.serialization import iso_z

_OF_GRANTS: Final = "OAUTH2"  # the type whose tokens are renewed with a refresh token of the end user's grant


def lifetime_of(sandbox: Sandbox, integration: SandboxIntegration) -> float:
    """The life of an access token, in seconds."""
    life = integration.tokens.access_life
    return sandbox.token_lifetime if life is None else life


def issue(
    integration: SandboxIntegration,
    *,
    now: datetime,
    lifetime: float | None,
    given: Mapping[str, Any] | None = None,
    grant: Grant | None = None,
    refreshable: bool = True,
) -> tuple[dict[str, Any], Grant]:
    """Credentials, and the grant behind them. lifetime: seconds of the access token; None: it does not expire.

    given: members that are kept. grant: the one that is renewed; None: an authorization begins one.
    """
    rules, mode = integration.tokens, integration.auth_mode
    tells = rules.tells_expiry and rules.renews is not Renewing.INTROSPECTED
    found = credential_rules.mint(
        mode,
        now=now,
        lifetime=lifetime if tells or mode != _OF_GRANTS else None,
        given=given,
        refreshable=refreshable and rules.renews is not Renewing.NEVER,
        kept_refresh_token=None if grant is None or rules.rotates else (given or {}).get("refresh_token"),
    )
    expires_at = None if lifetime is None else now + timedelta(seconds=lifetime)
    token = found.get("refresh_token")
    if grant is None:
        grant = grants.begun(now, token=token, expires_at=expires_at)
    else:
        grant = grants.renewed(rules, grant, now=now, token=token, expires_at=expires_at)
    if mode == _OF_GRANTS and token is not None:
        found["raw"] |= _told(rules, grant, now)
    return found, grant


def grant_of(connection: SandboxConnection) -> Grant:
    """The connection's grant; of one that an earlier release kept, as if it began with the connection."""
    return connection.grant or grants.begun(connection.created_at, token=connection.credentials.get("refresh_token"))


def _told(rules: TokenRules, grant: Grant, now: datetime) -> dict[str, object]:
    at = grants.deadline(rules, grant)
    if rules.tells is None or at is None:
        return {}
    if rules.tells is Told.EXPIRES_AT:
        return {rules.tells.value: iso_z(at)}
    return {rules.tells.value: int((at - now).total_seconds())}
