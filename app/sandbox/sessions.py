"""Connect sessions. Tags live in the session and are copied to the connection on completion.

(Nango contract: Connect sessions; Tag replacement)
"""

import secrets
from typing import Any, Final

from starlette.responses import Response

from app.domain.tags import MAX_TAGS
from app.sandbox.checks import CONNECTION_ID, INTEGRATION, Checks
from app.sandbox.context import SandboxCall
from app.sandbox.entities import SESSION_LIFETIME, SandboxEndUser, SandboxSession
from app.sandbox.owners import derived_tags, read_end_user
from app.sandbox.serialization import iso_z
from app.sandbox.wire import RefusedError, refuse_unstorable

_FAILED: Final = "Failed to create connect session"
_UI_SETTINGS: Final = {
    "showWatermark": True,
    "defaultTheme": "system",
    "theme": {"light": {"primary": "#00B2E3"}, "dark": {"primary": "#00B2E3"}},
}


def create_session(call: SandboxCall) -> Response:
    """Create a session. Either `tags`, which may be `{}`, or `end_user` is required."""
    call.refuse_query()
    checks = Checks(call.body, code="invalid_body")
    tags, end_user = checks.tags(), read_end_user(checks)
    if not checks.has("tags") and not checks.has("end_user"):
        checks.missing("object", "end_user")
    allowed = _read_allowed(call, checks)
    defaults, override = _read_defaults(checks), checks.webhook_url()
    checks.done()
    return _create(
        call,
        tags=_merged(end_user, tags),
        end_user=end_user,
        allowed_integrations=allowed,
        webhook_url_override=override or None,
        defaults=defaults,
    )


def create_reconnect_session(call: SandboxCall) -> Response:
    """Create a session for an existing connection. Without tags it has `{}`, which wipes the connection's on
    completion.

    (Nango contract: Tag replacement)
    """
    call.refuse_query()
    checks = Checks(call.body, code="invalid_body")
    connection_id = checks.text("connection_id", pattern=CONNECTION_ID)
    integration = checks.text("integration_id", pattern=INTEGRATION)
    tags, end_user = checks.tags(), read_end_user(checks)
    defaults, override = _read_defaults(checks), checks.webhook_url()
    checks.done()
    if call.sandbox.store.find(integration, connection_id) is None:
        raise RefusedError(400, "invalid_body", "ConnectionID or IntegrationId does not exists")
    return _create(
        call,
        tags=_merged(end_user, tags),
        end_user=end_user,
        allowed_integrations=(integration,),
        reconnects=connection_id,
        webhook_url_override=override or None,
        defaults=defaults,
    )


def get_session(call: SandboxCall) -> Response:
    """The session for the Connect UI: the owner, without the tags."""
    session = call.live_session()
    data: dict[str, Any] = {"endUser": _shown_end_user(session.end_user)}
    if session.allowed_integrations:
        data["allowed_integrations"] = list(session.allowed_integrations)
    if session.defaults:
        data["integrations_config_defaults"] = session.defaults
    if session.reconnects:
        data["isReconnecting"] = True
    return call.answer({"data": data | {"connectUISettings": _UI_SETTINGS, "websocketsPath": "/"}})


def delete_session(call: SandboxCall) -> Response:
    call.sandbox.store.delete_session(call.live_session())
    return Response(status_code=204)


def _create(call: SandboxCall, *, tags: dict[str, str], **facts: Any) -> Response:
    refuse_unstorable(call.body, _FAILED)
    token = f"nango_connect_session_{secrets.token_hex(32)}"
    session = SandboxSession(token=token, expires_at=call.now + SESSION_LIFETIME, tags=tags, **facts)
    call.sandbox.store.put_session(session, now=call.now)
    link = f"{call.sandbox.config.public_url}/?session_token={token}"
    data = {"token": token, "connect_link": link, "expires_at": iso_z(session.expires_at)}
    return call.answer({"data": data}, status=201)


def _merged(end_user: SandboxEndUser | None, tags: dict[str, str] | None) -> dict[str, str]:
    """Explicit tags override derived ones; too many after merging is a 500, not a 400 (Nango contract: Tag errors)."""
    merged = derived_tags(end_user) | (tags or {})
    if len(merged) > MAX_TAGS:
        raise RefusedError(500, "server_error", _FAILED)
    return merged


def _read_allowed(call: SandboxCall, checks: Checks) -> tuple[str, ...]:
    allowed = checks.raw("allowed_integrations")
    if allowed is None:
        return ()
    if not isinstance(allowed, list):
        checks.custom("Invalid input: expected array", "allowed_integrations")
        return ()
    for index, key in enumerate(allowed):
        if key not in call.sandbox.store.integrations:
            checks.custom("Integration does not exist", "allowed_integrations", str(index))
    return tuple(map(str, allowed))


def _read_defaults(checks: Checks) -> dict[str, Any] | None:
    checks.record("overrides")
    return checks.record("integrations_config_defaults")


def _shown_end_user(end_user: SandboxEndUser | None) -> dict[str, Any] | None:
    if end_user is None:
        return None
    organization = end_user.organization
    return {
        "id": end_user.id,
        "email": end_user.email,
        "display_name": end_user.display_name,
        "tags": end_user.tags,
        "organization": {"id": organization.id, "display_name": organization.display_name} if organization else None,
    }
