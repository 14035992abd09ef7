"""GET, PATCH and DELETE of one connection, import, and metadata.

(Nango contract: Read a connection; Change a connection; Import a connection; Metadata; Tag replacement)
"""

import uuid
from dataclasses import replace
from typing import Any, Final

from starlette.responses import Response

from app.domain.tags import MAX_TAGS
from app.sandbox import credentials as credential_rules
from app.sandbox import refreshing, scopes
from app.sandbox.checks import CONNECTION_ID, INTEGRATION, Checks
from app.sandbox.context import SandboxCall
from app.sandbox.entities import SandboxConnection, SandboxIntegration
from app.sandbox.grants import begun
from app.sandbox.owners import derived_tags, read_end_user
from app.sandbox.serialization import full
from app.sandbox.wire import RefusedError, refuse_unstorable

IMPORTABLE: Final = frozenset({"OAUTH2", "OAUTH2_CC", "OAUTH1", "API_KEY", "BASIC", "NONE", "TBA", "APP", "CUSTOM"})


def get_connection(call: SandboxCall) -> Response:
    connection_id = path_connection_id(call)
    checks = Checks(call.query, code="invalid_query_params")
    integration = checks.text("provider_config_key", pattern=INTEGRATION)
    force = checks.flag("force_refresh")
    with_refresh_token = checks.flag("refresh_token")
    of_github = checks.flag("refresh_github_app_jwt_token")
    checks.done()
    readable = scopes.allows(call.scopes, scopes.CREDENTIALS)
    if not readable and (force or with_refresh_token or of_github):
        words = f"Credential and refresh options require the {scopes.CREDENTIALS[0]} scope"
        raise RefusedError(403, "forbidden", words)
    call.sandbox.integration(integration)
    connection = _existing(call, integration, connection_id)
    if not readable:
        return call.answer(full(connection, {}))  # neither refreshed nor stamped as fetched
    connection, events = refreshing.read(call.sandbox, connection, force=force, now=call.now)
    return call.answer(shown(connection, with_refresh_token=with_refresh_token), events=events)


def shown(connection: SandboxConnection, *, with_refresh_token: bool = False) -> dict[str, Any]:
    """The body of GET /connections/{id}."""
    credentials = connection.credentials
    return full(connection, credentials if with_refresh_token else credential_rules.without_refresh_tokens(credentials))


def delete_connection(call: SandboxCall) -> Response:
    connection_id, integration = path_connection_id(call), query_integration(call)
    connection = call.sandbox.store.find(integration, connection_id)
    if connection is None:
        # 400 without a message, not 404 (Nango contract: Change a connection).
        raise RefusedError(400, "unknown_connection")
    call.sandbox.store.delete([connection], now=call.now)
    return call.answer({"success": True}, events=(call.sandbox.event(connection, "deletion"),))


def patch_connection(call: SandboxCall) -> Response:
    """Tags are replaced as a whole; `end_user` without tags replaces them by its derived ones.

    (Nango contract: Tag replacement)
    """
    connection_id, integration = path_connection_id(call), query_integration(call)
    checks = Checks(call.body, code="invalid_body")
    tags, end_user, override = checks.tags(), read_end_user(checks), checks.webhook_url()
    overrides = checks.has("webhook_url_override")
    checks.done()
    call.sandbox.integration(integration)
    connection = _existing(call, integration, connection_id)
    refuse_unstorable(call.body, "Failed to update connection")
    if end_user is not None:
        tags = derived_tags(end_user) | (tags or {})
        if len(tags) > MAX_TAGS:
            raise RefusedError(400, "invalid_body", f"Tags cannot contain more than {MAX_TAGS} keys")
    patched = replace(
        connection,
        tags=connection.tags if tags is None else tags,
        end_user=end_user or connection.end_user,
        webhook_url_override=(override or None) if overrides else connection.webhook_url_override,
    )
    call.sandbox.store.put(patched, now=call.now)
    return call.answer({"success": True})


def import_connection(call: SandboxCall) -> Response:
    """Insert or replace. Omitted tags and metadata are wiped on an existing connection
    (Nango contract: Tag replacement).
    """
    call.refuse_query()
    checks = Checks(call.body, code="invalid_body")
    key = checks.text("provider_config_key", pattern=INTEGRATION)
    given = checks.record("credentials", required=True) or {}
    connection_id = checks.optional_text("connection_id", pattern=CONNECTION_ID) or str(uuid.uuid4())
    metadata, config = checks.record("metadata"), checks.record("connection_config")
    override, tags, end_user = checks.webhook_url(), checks.tags(), read_end_user(checks)
    if given.get("type", "NONE") not in IMPORTABLE:
        checks.custom("Invalid input", "credentials", "type")
    checks.done()
    integration = call.sandbox.store.integrations.get(key)
    if integration is None:
        raise RefusedError(404, "not_found", "Integration does not exist")
    _refuse_other_type(integration, given)
    refuse_unstorable(call.body, "Failed to create connection")
    credentials = {**given, "raw": given} if given.get("type") == "OAUTH2" and "raw" not in given else given
    connection, operation = upsert(
        call,
        integration,
        connection_id,
        tags=derived_tags(end_user) | (tags or {}),
        end_user=end_user,
        metadata=metadata or {},
        connection_config=config or {},
        webhook_url_override=override or None,
        credentials=credentials if integration.auth_mode != "NONE" else {},
        grant=begun(
            call.now, token=credentials.get("refresh_token"), expires_at=credential_rules.expires_at(credentials)
        ),
        updated_at=call.now,
        trouble=None,
    )
    event = call.sandbox.event(connection, operation)  # never with endUser (Nango contract: Auth webhook)
    return call.answer(full(connection, connection.credentials, imported=True), status=201, events=(event,))


def set_metadata(call: SandboxCall) -> Response:
    return _write_metadata(call, merge=False, status=201)


def merge_metadata(call: SandboxCall) -> Response:
    return _write_metadata(call, merge=True, status=200)


def upsert(
    call: SandboxCall, integration: SandboxIntegration, connection_id: str, **changes: Any
) -> tuple[SandboxConnection, str]:
    """Insert or change a connection. Returns it with `creation` or `override`."""
    store = call.sandbox.store
    existing = store.find(integration.unique_key, connection_id)
    if existing is not None:
        return store.put(replace(existing, **changes), now=call.now), "override"
    facts = {"updated_at": call.now, "connection_config": {}, **changes}
    connection = SandboxConnection(
        id=store.next_id(),
        connection_id=connection_id,
        integration=integration.unique_key,
        provider=integration.provider,
        auth_mode=integration.auth_mode,
        created_at=call.now,
        last_fetched_at=call.now,
        **facts,
    )
    return store.put(connection, now=call.now), "creation"


def path_connection_id(call: SandboxCall) -> str:
    checks = Checks({"connectionId": call.path("connection_id")}, code="invalid_uri_params")
    connection_id = checks.text("connectionId", pattern=CONNECTION_ID)
    checks.done()
    return connection_id


def query_integration(call: SandboxCall) -> str:
    checks = Checks(call.query, code="invalid_query_params")
    integration = checks.text("provider_config_key", pattern=INTEGRATION)
    checks.done()
    return integration


def _existing(call: SandboxCall, integration: str, connection_id: str) -> SandboxConnection:
    connection = call.sandbox.store.find(integration, connection_id)
    if connection is None:
        raise RefusedError(404, "not_found", "Failed to find connection")
    return connection


def _write_metadata(call: SandboxCall, *, merge: bool, status: int) -> Response:
    call.refuse_query()
    checks = Checks(call.body, code="invalid_body")
    listed = isinstance(checks.raw("connection_id"), list)
    ids = [str(id_) for id_ in checks.raw("connection_id")] if listed else [checks.text("connection_id")]
    integration = checks.text("provider_config_key")
    metadata = checks.record("metadata", required=True) or {}
    checks.done()
    refuse_unstorable(call.body, "Failed to write metadata")
    store = call.sandbox.store
    found = {id_: store.find(integration, id_) for id_ in ids}
    for id_, connection in found.items():
        if connection is None:
            raise _unknown_for_metadata(integration, id_, several=listed)
    for connection in filter(None, found.values()):
        kept = connection.metadata or {} if merge else {}
        store.put(replace(connection, metadata=kept | metadata), now=call.now)
    return call.answer(call.body, status=status)


def _unknown_for_metadata(integration: str, connection_id: str, *, several: bool) -> RefusedError:
    where = f"Connection with connection id {connection_id} and provider config key {integration} not found."
    message = f"{where} Please make sure the connection exists in the Nango dashboard"
    if several:
        message += ". No actions were taken on any of the connections as a result of this failure."
    return RefusedError(404, "unknown_connection", message)


def _refuse_other_type(integration: SandboxIntegration, given: dict[str, Any]) -> None:
    if given.get("type", "NONE") != integration.auth_mode:
        issue = {
            "code": "custom",
            "message": f"Credentials must be of type {integration.auth_mode}",
            "path": ["credentials", "type"],
        }
        raise RefusedError(400, "invalid_body", issues=[issue])
