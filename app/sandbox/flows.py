"""The auth flows an end user goes through, each authenticated by a connect session (CONTRACT 1.3, 2.3)."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from app.sandbox.checks import Checks
from app.sandbox.connections import upsert
from app.sandbox.context import Call
from app.sandbox.credentials import mint
from app.sandbox.faults import Operation, Rule
from app.sandbox.values import Integration
from app.sandbox.webhooks import Event, auth_body
from app.sandbox.wire import RefusedError, refuse_unstorable

_PROVIDER_REFUSAL: Final = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
_QUERY: Final = ("connect_session_token", "params", "hmac", "user_scope")


def api_key(call: Call) -> Response:
    integration, connection_id = _start(call, "API_KEY")
    checks = Checks(call.body, code="invalid_body")
    given = {"apiKey": checks.text("apiKey", maximum=10_000)}
    checks.done()
    if _struck(call, integration, connection_id):
        # The end user sees a refusal and nobody gets a webhook (CONTRACT 1.3).
        raise RefusedError(400, "connection_test_failed", "The given credentials were found to be invalid")
    return _complete(call, integration, connection_id, given)


def basic(call: Call) -> Response:
    integration, connection_id = _start(call, "BASIC")
    checks = Checks(call.body, code="invalid_body")
    given = {name: checks.optional_text(name, minimum=0, maximum=1024) or "" for name in ("username", "password")}
    checks.done()
    if _struck(call, integration, connection_id):
        raise RefusedError(400, "connection_test_failed", "The given credentials were found to be invalid")
    return _complete(call, integration, connection_id, given)


def unauthenticated(call: Call) -> Response:
    integration, connection_id = _start(call, "NONE")
    return _complete(call, integration, connection_id, {})


def client_credentials(call: Call) -> Response:
    integration, connection_id = _start(call, "OAUTH2_CC")
    checks = Checks(call.body, code="invalid_body")
    given = {
        "client_id": checks.text("client_id"),
        "client_secret": checks.optional_text("client_secret", minimum=0, maximum=4096) or "",
    }
    checks.done(tolerated=("client_certificate", "client_private_key"))
    if _struck(call, integration, connection_id):
        refusal = json.dumps({"provider_error_payload": _PROVIDER_REFUSAL}, separators=(",", ":"))
        message = f"Failed to fetch client credentials token: {json.dumps(refusal)}"
        raise RefusedError(400, "client_credentials_fetch_error", message, payload=refusal)
    return _complete(call, integration, connection_id, given)


def oauth(call: Call) -> Response:
    """Ours, in place of a browser's round trip through a provider: POST /sandbox/oauth/{integration}.

    Body, all optional: `fail` (the provider refuses), `refresh_token` (false: the grant has none), `expires_in`
    (seconds; null: the token has no expiry).
    """
    integration, connection_id = _start(call, "OAUTH2")
    checks = Checks(call.body, code="invalid_body")
    fails, refreshable = checks.flag("fail"), checks.flag("refresh_token", default=True)
    lifetime = checks.number("expires_in", default=call.sandbox.token_lifetime, minimum=0, maximum=10**9)
    checks.done()
    rule = _struck(call, integration, connection_id)
    if fails or rule:
        raise _oauth_failure(call, integration, connection_id, message=rule.message if rule else None)
    return _complete(call, integration, connection_id, {}, lifetime=lifetime, refreshable=refreshable)


def _start(call: Call, auth_mode: str) -> tuple[Integration, str]:
    """The integration and the id the connection has or will get, which the server chooses (CONTRACT 0)."""
    checks = Checks(call.query, code="invalid_query_params")
    checks.done(tolerated=_QUERY)
    session = call.live_session()
    integration = call.sandbox.integration(call.path("integration"), status=404)
    if session.allowed_integrations and integration.unique_key not in session.allowed_integrations:
        raise RefusedError(400, "integration_not_allowed")
    if integration.auth_mode != auth_mode:
        raise RefusedError(400, "invalid_auth_mode")
    return integration, session.reconnects or str(uuid.uuid4())


def _struck(call: Call, integration: Integration, connection_id: str) -> Rule | None:
    return call.sandbox.faults.strikes(
        Operation.AUTHORIZE, integration=integration.unique_key, connection_id=connection_id
    )


def _complete(
    call: Call,
    integration: Integration,
    connection_id: str,
    given: Mapping[str, Any],
    *,
    lifetime: float | None = None,
    refreshable: bool = True,
) -> Response:
    refuse_unstorable(call.body, "Failed to create connection")
    session, mode = call.live_session(), integration.auth_mode
    is_oauth = mode == "OAUTH2"
    credentials = mint(
        mode,
        now=call.now,
        lifetime=lifetime if is_oauth else call.sandbox.token_lifetime,
        given=given,
        refreshable=refreshable,
    )
    changes: dict[str, Any] = {"tags": session.tags, "credentials": credentials, "trouble": None}
    if not is_oauth:
        # Re-authorizing resets metadata, except through OAuth, which does not even move updated_at (CONTRACT 2.3, 4).
        changes |= {"metadata": {}, "updated_at": call.now}
    if session.end_user is not None:
        changes["end_user"] = session.end_user
    if session.webhook_url_override:
        changes["webhook_url_override"] = session.webhook_url_override
    if config := _connection_config(session.defaults, integration.unique_key):
        changes["connection_config"] = config
    connection, operation = upsert(call, integration, connection_id, **changes)
    event = call.sandbox.event(connection, operation, end_user=session.end_user)
    return call.answer({"connectionId": connection_id, "providerConfigKey": integration.unique_key}, events=(event,))


def _connection_config(defaults: Mapping[str, Any] | None, integration: str) -> dict[str, Any]:
    own = (defaults or {}).get(integration)
    config = own.get("connection_config") if isinstance(own, Mapping) else None
    return dict(config) if isinstance(config, Mapping) else {}


def _oauth_failure(
    call: Call, integration: Integration, connection_id: str, *, message: str | None = None
) -> RefusedError:
    """Always labelled `creation` and without tags, also when an existing connection failed (CONTRACT 1.2, 1.3)."""
    thrown = {
        "name": "Error",
        "message": message or "Response Error: 400 Bad Request",
        "provider_error_payload": _PROVIDER_REFUSAL,
    }
    body = auth_body(
        environment=call.sandbox.config.environment,
        connection_id=connection_id,
        integration=integration.unique_key,
        provider=integration.provider,
        auth_mode=integration.auth_mode,
        operation="creation",
        error={"type": "unknown", "description": json.dumps(thrown, indent=2)},
    )
    existing = call.sandbox.store.find(integration.unique_key, connection_id)
    override = call.live_session().webhook_url_override or (existing.webhook_url_override if existing else None)
    return RefusedError(
        400,
        "oauth_failed",
        "The provider refused the authorization",
        payload={"connectionId": connection_id, "providerConfigKey": integration.unique_key},
        events=(Event(url=override or call.sandbox.config.webhook_url, body=body),),
    )
