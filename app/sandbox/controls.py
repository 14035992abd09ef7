"""Controls that a real Nango does not have: calls under /sandbox that set up and inspect the state."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from starlette.responses import Response

from app.sandbox import grant_controls, grants, refreshing
from app.sandbox.checks import CONNECTION_ID, INTEGRATION, Checks
from app.sandbox.connections import path_connection_id, query_integration, shown, upsert
from app.sandbox.context import SandboxCall
from app.sandbox.credentials import expires_at, with_expiry
from app.sandbox.entities import AuthFailure, SandboxConnection
from app.sandbox.integrations import new
from app.sandbox.issuing import grant_of, issue, lifetime_of
from app.sandbox.owners import from_webhook
from app.sandbox.serialization import iso_z
from app.sandbox.webhooks import WebhookDelivery
from app.sandbox.wire import RefusedError, refuse_unstorable

SHOWN_DELIVERIES: Final = 100
DELETION: Final = "on_connection_deletion"


def register_connection(call: SandboxCall) -> Response:
    """POST /sandbox/connections: the body of an auth webhook becomes a connection, and no webhook is sent.

    Unknown integrations and connections are created; a known connection takes the tags. In addition to the webhook's
    members, `credentials` may set those that a GET shows; without it they are generated. 201, the GET body.
    """
    checks = Checks(call.body, code="invalid_body")
    connection_id = checks.text("connectionId", pattern=CONNECTION_ID)
    key = checks.text("providerConfigKey", pattern=INTEGRATION)
    auth_mode, provider = checks.optional_text("authMode"), checks.optional_text("provider")
    tags = (checks.tags() or {}) if checks.raw("tags") is not None else None
    end_user = from_webhook(checks.raw("endUser"))
    given = checks.record("credentials")
    if checks.issues:
        raise RefusedError(400, "invalid_body", issues=checks.issues)
    refuse_unstorable(call.body, "Failed to create connection")
    store = call.sandbox.store
    integration = store.integrations.get(key) or store.put_integration(
        new(key, provider or key, now=call.now, auth_mode=auth_mode)
    )
    changes: dict[str, Any] = {}
    if tags is not None:
        changes["tags"] = tags
    if end_user is not None:
        changes["end_user"] = end_user
    if given is not None:
        changes["credentials"] = given
        changes["grant"] = grants.begun(call.now, token=given.get("refresh_token"), expires_at=expires_at(given))
    if store.find(key, connection_id) is None:
        credentials, grant = issue(integration, now=call.now, lifetime=lifetime_of(call.sandbox, integration))
        metadata: dict[str, Any] | None = None if integration.auth_mode == "OAUTH2" else {}
        changes = {"tags": {}, "credentials": credentials, "grant": grant, "metadata": metadata} | changes
    connection, _ = upsert(call, integration, connection_id, **changes)
    return call.answer(shown(connection), status=201)


def change_connection(call: SandboxCall) -> Response:
    """PATCH /sandbox/connections/{id}?provider_config_key=: set the state of its token; all members are optional.

    `expires_in`: seconds from now, 0 expires it, null removes the expiry. `exhausted`: true makes Nango give it up,
    false clears the error. `backing_off`: false ends the 30 s after a failure at once. `renewed_ago`: seconds since the
    last renewal. `revoked`: the end user took the grant back.
    """
    connection_id, key = path_connection_id(call), query_integration(call)
    checks = Checks(call.body, code="invalid_body")
    moves = checks.has("expires_in")
    lifetime = checks.number("expires_in", minimum=-(10**9), maximum=10**9)
    exhausted = checks.flag("exhausted") if checks.has("exhausted") else None
    cools = checks.has("backing_off") and not checks.flag("backing_off")
    connection = call.sandbox.store.find(key, connection_id)
    if connection is None:
        checks.done(tolerated=("renewed_ago", "revoked"))
        raise RefusedError(404, "not_found", "Failed to find connection")
    connection = grant_controls.moved(connection, checks, call)
    checks.done()
    if moves:
        expiry = None if lifetime is None else call.now + timedelta(seconds=lifetime)
        changed = with_expiry(connection.credentials, expiry)
        connection = replace(connection, credentials=changed, grant=replace(grant_of(connection), expires_at=expiry))
    if exhausted is not None:
        connection = _exhausted(call, connection) if exhausted else replace(connection, trouble=None)
    if cools and connection.trouble:
        earlier = call.now - refreshing.COOL_DOWN
        connection = replace(connection, trouble=replace(connection.trouble, failed_at=earlier))
    return call.answer(shown(call.sandbox.store.put(connection, now=call.now)))


def list_deliveries(call: SandboxCall) -> Response:
    """GET /sandbox/deliveries?limit=&connectionId=: the newest first."""
    checks = Checks(call.query, code="invalid_query_params")
    limit = int(checks.number("limit", minimum=1, maximum=5000) or SHOWN_DELIVERIES)
    connection_id = checks.optional_text("connectionId")
    checks.done()
    newest = reversed(call.sandbox.courier.deliveries)
    found = [delivery for delivery in newest if connection_id in {None, delivery.body["connectionId"]}]
    return call.answer({"deliveries": [_delivery(delivery) for delivery in found[:limit]]})


def get_settings(call: SandboxCall) -> Response:
    sandbox = call.sandbox
    return call.answer(
        {
            "environment": sandbox.config.environment,
            "webhook_url": sandbox.webhooks.primary_url,
            "replica_lag": sandbox.store.replica.lag,
            "token_lifetime": sandbox.token_lifetime,
            "rate_limit_per_minute": sandbox.limit.per_minute,
            "recovery_events": sandbox.recovery_events,
            "deletion_events": sandbox.webhooks.switches[DELETION],
        }
    )


def change_settings(call: SandboxCall) -> Response:
    """PATCH /sandbox/settings: any of `replica_lag`, `token_lifetime` (seconds), `rate_limit_per_minute`,
    `recovery_events`, `deletion_events`. Answers all settings."""
    sandbox = call.sandbox
    checks = Checks(call.body, code="invalid_body")
    lag = checks.number("replica_lag", default=sandbox.store.replica.lag, minimum=0, maximum=86_400)
    lifetime = checks.number("token_lifetime", default=sandbox.token_lifetime, minimum=0, maximum=10**9)
    limit = checks.number("rate_limit_per_minute", default=sandbox.limit.per_minute, minimum=0, maximum=10**9)
    recovery = checks.flag("recovery_events", default=sandbox.recovery_events)
    deletion = checks.flag("deletion_events", default=sandbox.webhooks.switches[DELETION])
    checks.done()
    if lag is not None and lifetime is not None and limit is not None:
        sandbox.store.replica.lag, sandbox.token_lifetime, sandbox.limit.per_minute = lag, lifetime, int(limit)
    sandbox.recovery_events = recovery
    sandbox.webhooks.switches[DELETION] = deletion
    return get_settings(call)


def _exhausted(call: SandboxCall, connection: SandboxConnection) -> SandboxConnection:
    days = refreshing.FAILING_DAYS
    log_id = refreshing.log_id()
    return replace(connection, trouble=AuthFailure(failed_at=call.now, attempts=days, exhausted=True, log_id=log_id))


def _delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "url": delivery.url,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "attempted_at": [iso_z(moment) for moment in delivery.attempted_at],
        "body": delivery.body,
    }
