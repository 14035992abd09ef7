"""Auth flows of an end user, each authenticated by a connect session.

(Nango contract: When auth webhooks are sent; Tag replacement)
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from app.sandbox import html_templates
from app.sandbox.checks import Checks
from app.sandbox.connections import upsert
from app.sandbox.context import SandboxCall
from app.sandbox.entities import Authorization, SandboxIntegration
from app.sandbox.faults import Operation, Rule
from app.sandbox.issuing import issue, lifetime_of
from app.sandbox.webhooks import AuthWebhook, auth_body
from app.sandbox.wire import MISSING, RefusedError, refuse_unstorable

_PROVIDER_REFUSAL: Final = {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
# Shown to the end user; no webhook is sent (Nango contract: When auth webhooks are sent).
_TEST_FAILED: Final = "The given credentials were found to be invalid. Please check the credentials and try again."
_QUERY: Final = ("connect_session_token", "params", "hmac", "user_scope")


def api_key(call: SandboxCall) -> Response:
    integration, connection_id = start(call, "API_KEY")
    checks = Checks(call.body, code="invalid_body")
    given = {"apiKey": checks.text("apiKey", maximum=10_000)}
    checks.done()
    if fault_of(call, integration, connection_id):
        raise RefusedError(400, "connection_test_failed", _TEST_FAILED)
    return _complete(call, integration, connection_id, given)


def basic(call: SandboxCall) -> Response:
    integration, connection_id = start(call, "BASIC")
    checks = Checks(call.body, code="invalid_body")
    given = {name: checks.optional_text(name, minimum=0, maximum=1024) or "" for name in ("username", "password")}
    checks.done()
    if fault_of(call, integration, connection_id):
        raise RefusedError(400, "connection_test_failed", _TEST_FAILED)
    return _complete(call, integration, connection_id, given)


def unauthenticated(call: SandboxCall) -> Response:
    integration, connection_id = start(call, "NONE")
    return _complete(call, integration, connection_id, {})


def client_credentials(call: SandboxCall) -> Response:
    integration, connection_id = start(call, "OAUTH2_CC")
    checks = Checks(call.body, code="invalid_body")
    given = {
        "client_id": checks.text("client_id"),
        "client_secret": checks.optional_text("client_secret", minimum=0, maximum=4096) or "",
    }
    checks.done(tolerated=("client_certificate", "client_private_key"))
    if fault_of(call, integration, connection_id):
        refusal = json.dumps({"provider_error_payload": _PROVIDER_REFUSAL}, separators=(",", ":"))
        message = f"Failed to fetch client credentials token: {json.dumps(refusal)}"
        raise RefusedError(400, "client_credentials_fetch_error", message, payload=refusal)
    return _complete(call, integration, connection_id, given)


def oauth_start(call: SandboxCall) -> Response:
    """GET /oauth/connect/{integration}: redirects the browser to the provider, here the sandbox's own page."""
    integration, connection_id = start(call, "OAUTH2")
    state, public = str(uuid.uuid4()), call.sandbox.config.public_url
    authorization = Authorization(
        session=call.live_session(), integration=integration.unique_key, connection_id=connection_id
    )
    call.sandbox.store.begin_authorization(state, authorization, now=call.now)
    query = {
        "response_type": "code",
        "client_id": f"sandbox-client-{integration.unique_key}",
        "redirect_uri": f"{public}/oauth/callback",
        "scope": "",
        "state": state,
    }
    response = Response(status_code=302, headers={"location": f"{public}/sandbox/provider?{urlencode(query)}"})
    response.set_cookie(f"oauth2-{state}", "1", max_age=3600, httponly=True, samesite="lax")
    return response


def oauth_callback(call: SandboxCall) -> Response:
    """GET /oauth/callback: the browser returns with a `code` or with the provider's refusal."""
    state = call.query.get("state")
    begun = call.sandbox.store.end_authorization(state) if isinstance(state, str) else None
    if begun is None:
        return call.page(html_templates.failed("This authorization is not known, or was finished before."), status=400)
    call = replace(call, session=begun.session)
    integration = call.sandbox.integration(begun.integration)
    rule = fault_of(call, integration, begun.connection_id)
    if rule or not call.query.get("code"):
        refused = _oauth_failure(
            call,
            integration,
            begun.connection_id,
            message=rule.message if rule else None,
            refusal=None if rule else str(call.query.get("error", "unknown")),
        )
        return call.page(html_templates.failed(str(refused.error["message"])), status=400, events=refused.events)
    event = _connected(call, integration, begun.connection_id, {}, lifetime=lifetime_of(call.sandbox, integration))
    return call.page(html_templates.connected(begun.connection_id, integration.unique_key), events=(event,))


def oauth(call: SandboxCall) -> Response:
    """POST /sandbox/oauth/{integration}: the sandbox's replacement for a browser's round trip through a provider.

    Body, all optional: `fail` (the provider refuses), `refresh_token` (false: the grant has none), `expires_in`
    (seconds; null: the token has no expiry).
    """
    integration, connection_id = start(call, "OAUTH2")
    checks = Checks({} if call.body is MISSING else call.body, code="invalid_body")
    fails, refreshable = checks.flag("fail"), checks.flag("refresh_token", default=True)
    lifetime = checks.number("expires_in", default=lifetime_of(call.sandbox, integration), minimum=0, maximum=10**9)
    checks.done()
    rule = fault_of(call, integration, connection_id)
    if fails or rule:
        raise _oauth_failure(call, integration, connection_id, message=rule.message if rule else None)
    return _complete(call, integration, connection_id, {}, lifetime=lifetime, refreshable=refreshable)


def start(call: SandboxCall, auth_mode: str) -> tuple[SandboxIntegration, str]:
    """The integration and the connection's id, existing or new, which the server chooses.

    (Nango contract: Connection identity)
    """
    checks = Checks(call.query, code="invalid_query_params")
    if checks.has("connection_id"):
        checks.custom("connection_id is forbidden when using session token", "connection_id")
    checks.done(tolerated=_QUERY)
    session = call.live_session()
    integration = call.sandbox.integration(call.path("integration"), status=404)
    if session.allowed_integrations and integration.unique_key not in session.allowed_integrations:
        raise RefusedError(400, "integration_not_allowed")
    if integration.auth_mode != auth_mode:
        raise RefusedError(400, "invalid_auth_mode")
    return integration, session.reconnects or str(uuid.uuid4())


def fault_of(call: SandboxCall, integration: SandboxIntegration, connection_id: str) -> Rule | None:
    return call.sandbox.faults.match(
        Operation.AUTHORIZE, integration=integration.unique_key, connection_id=connection_id, now=call.now
    )


def _complete(
    call: SandboxCall,
    integration: SandboxIntegration,
    connection_id: str,
    given: Mapping[str, Any],
    *,
    lifetime: float | None = None,
    refreshable: bool = True,
) -> Response:
    event = _connected(call, integration, connection_id, given, lifetime=lifetime, refreshable=refreshable)
    return call.answer({"connectionId": connection_id, "providerConfigKey": integration.unique_key}, events=(event,))


def _connected(
    call: SandboxCall,
    integration: SandboxIntegration,
    connection_id: str,
    given: Mapping[str, Any],
    *,
    lifetime: float | None = None,
    refreshable: bool = True,
) -> AuthWebhook:
    """Create or replace the connection. Returns its webhook."""
    refuse_unstorable(call.body, "Failed to create connection")
    session, mode = call.live_session(), integration.auth_mode
    is_oauth = mode == "OAUTH2"
    credentials, grant = issue(
        integration,
        now=call.now,
        lifetime=lifetime if is_oauth else lifetime_of(call.sandbox, integration),
        given=given,
        refreshable=refreshable,
    )
    changes: dict[str, Any] = {"tags": session.tags, "credentials": credentials, "grant": grant, "trouble": None}
    if not is_oauth:
        # Re-authorization resets metadata, except through OAuth, which does not even change updated_at
        # (Nango contract: Tag replacement).
        changes |= {"metadata": {}, "updated_at": call.now}
    if session.end_user is not None:
        changes["end_user"] = session.end_user
    if session.webhook_url_override:
        changes["webhook_url_override"] = session.webhook_url_override
    if config := _connection_config(session.defaults, integration.unique_key):
        changes["connection_config"] = config
    connection, operation = upsert(call, integration, connection_id, **changes)
    return call.sandbox.event(connection, operation, end_user=session.end_user)


def _connection_config(defaults: Mapping[str, Any] | None, integration: str) -> dict[str, Any]:
    own = (defaults or {}).get(integration)
    config = own.get("connection_config") if isinstance(own, Mapping) else None
    return dict(config) if isinstance(config, Mapping) else {}


def _oauth_failure(
    call: SandboxCall,
    integration: SandboxIntegration,
    connection_id: str,
    *,
    message: str | None = None,
    refusal: str | None = None,
) -> RefusedError:
    """The error where the provider refused the code, or gave none (`refusal`: its error).

    Its webhook is always labelled `creation` and without tags, also when an existing connection failed
    (Nango contract: Auth webhook; When auth webhooks are sent).
    """
    thrown = {
        "name": "Error",
        "message": message or "Response Error: 400 Bad Request",
        "provider_error_payload": _PROVIDER_REFUSAL,
    }
    error = {"type": "unknown", "description": json.dumps(thrown, indent=2)}
    if refusal is not None:
        no_code = f"Did not get authorization code in the callback. Provider error: {refusal}"
        error = {"type": "invalid_callback", "description": no_code}
    body = auth_body(
        environment=call.sandbox.config.environment,
        connection_id=connection_id,
        integration=integration.unique_key,
        provider=integration.provider,
        auth_mode=integration.auth_mode,
        operation="creation",
        error=error,
    )
    existing = call.sandbox.store.find(integration.unique_key, connection_id)
    override = call.live_session().webhook_url_override or (existing.webhook_url_override if existing else None)
    return RefusedError(
        400,
        "oauth_failed",
        "The provider refused the authorization",
        payload={"connectionId": connection_id, "providerConfigKey": integration.unique_key},
        events=(AuthWebhook(urls=call.sandbox.webhooks.urls("creation", override), body=body),),
    )
