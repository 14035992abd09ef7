"""The sandbox as an ASGI application: routes and lifespan."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.sandbox import (
    connect_pages,
    connections,
    controls,
    environment,
    fault_controls,
    flows,
    grant_controls,
    html_templates,
    integrations,
    keys,
    scopes,
    sessions,
    statefile,
)
from app.sandbox.config import SandboxConfig
from app.sandbox.context import Handler, Sandbox, utc_now
from app.sandbox.cors import Cors
from app.sandbox.entities import SandboxWebhookSettings, SavedState
from app.sandbox.faults import Faults, Operation
from app.sandbox.guard import Guard, account_key, api_key, endpoint, public, session_bearer, session_query
from app.sandbox.limits import SandboxRateLimit
from app.sandbox.listing import list_connections
from app.sandbox.state import Store
from app.sandbox.webhooks import WebhookSender

__all__ = ["SandboxConfig", "create_sandbox"]


def create_sandbox(config: SandboxConfig) -> Starlette:
    """A sandbox for one environment. It keeps its state in this process: run it with one worker.

    Raises ConfigurationError when `config.state_file` cannot be used.
    """
    store = _open_store(config)
    sandbox = Sandbox(
        config=config,
        store=store,
        courier=WebhookSender(
            signing_key=store.signing_key or config.signing_key,
            retry_waits=config.retry_waits,
            timeout=config.delivery_timeout,
        ),
        faults=Faults(),
        limit=SandboxRateLimit(per_minute=config.rate_limit_per_minute),
        token_lifetime=config.token_lifetime,
        recovery_events=config.recovery_events,
        webhooks=SandboxWebhookSettings(primary_url=config.webhook_url, switches=_switches(config)),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with sandbox.courier, _kept_state(sandbox):
            for key in store.keys.values():
                sandbox.add_environment(key.environment)
            yield

    routes = [Route("/health", _health), *_nango_routes(sandbox), *_flow_routes(sandbox), *_control_routes(sandbox)]
    handlers = {HTTPException: _no_such_route, Exception: _unhandled}
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=[Middleware(Cors)])


def _nango_routes(sandbox: Sandbox) -> list[Route]:
    def call(method: str, path: str, handler: Handler, operation: Operation, needs: tuple[str, ...]) -> Route:
        return Route(path, endpoint(sandbox, handler, needs=needs, operation=operation), methods=[method])

    def plain(method: str, path: str, handler: Handler, guard: Guard = api_key) -> Route:
        return Route(path, endpoint(sandbox, handler, guard), methods=[method])

    def account(method: str, handler: Handler, needs: tuple[str, ...]) -> Route:
        return Route(
            "/environments/{environment_id}", endpoint(sandbox, handler, account_key, needs=needs), methods=[method]
        )

    session, again = Operation.CREATE_CONNECT_SESSION, Operation.CREATE_RECONNECT_SESSION
    read, write = (Operation.GET_CONNECTION, scopes.READ), (Operation.PATCH_CONNECTION, scopes.UPDATE)
    listing = (Operation.LIST_CONNECTIONS, scopes.LIST)
    # An imported id may contain slashes (Nango contract: Connection identity), and the server decodes the path.
    by_id = "{connection_id:path}"
    return [
        call("POST", "/connect/sessions", sessions.create_session, session, scopes.SESSIONS),
        call("POST", "/connect/sessions/reconnect", sessions.create_reconnect_session, again, scopes.SESSIONS),
        plain("GET", "/connect/session", sessions.get_session, session_bearer),
        plain("DELETE", "/connect/session", sessions.delete_session, session_bearer),
        call("GET", "/connections", list_connections, *listing),
        call("GET", "/connection", list_connections, *listing),  # deprecated (Nango contract: Integrations)
        call("POST", "/connections", connections.import_connection, Operation.IMPORT_CONNECTION, scopes.CREATE),
        call("POST", "/connections/metadata", connections.set_metadata, Operation.SET_METADATA, scopes.UPDATE),
        call("PATCH", "/connections/metadata", connections.merge_metadata, Operation.UPDATE_METADATA, scopes.UPDATE),
        call("GET", f"/connections/{by_id}", connections.get_connection, *read),
        call("GET", f"/connection/{by_id}", connections.get_connection, *read),
        call("PATCH", f"/connections/{by_id}", connections.patch_connection, *write),
        call(
            "DELETE", f"/connections/{by_id}", connections.delete_connection, Operation.DELETE_CONNECTION, scopes.DELETE
        ),
        call(
            "GET",
            "/integrations",
            integrations.list_integrations,
            Operation.LIST_INTEGRATIONS,
            scopes.INTEGRATIONS_LIST,
        ),
        plain("POST", "/integrations", integrations.create_integration),
        call(
            "GET",
            "/integrations/{integration}",
            integrations.get_integration,
            Operation.GET_INTEGRATION,
            scopes.INTEGRATIONS_READ,
        ),
        plain("DELETE", "/integrations/{integration}", integrations.delete_integration),
        plain("GET", "/providers/{provider}", integrations.get_provider),
        account("GET", environment.get_environment, scopes.ACCOUNT_READ),
        account("PATCH", environment.change_environment, scopes.ACCOUNT_UPDATE),
        Route(
            "/environment/webhook-signing-key/rotate",
            endpoint(sandbox, keys.rotate_signing_key, needs=scopes.ROTATE_SIGNING_KEY),
            methods=["POST"],
        ),
    ]


def _flow_routes(sandbox: Sandbox) -> list[Route]:
    def route(path: str, handler: Handler) -> Route:
        return Route(path, endpoint(sandbox, handler, session_query), methods=["POST"])

    def browser(path: str, handler: Handler) -> Route:
        return Route(path, endpoint(sandbox, handler, public, limited=False), methods=["GET"])

    return [
        route("/api-auth/api-key/{integration}", flows.api_key),
        route("/api-auth/basic/{integration}", flows.basic),
        route("/auth/unauthenticated/{integration}", flows.unauthenticated),
        route("/oauth2/auth/{integration}", flows.client_credentials),
        route("/sandbox/oauth/{integration}", flows.oauth),
        Route("/oauth/connect/{integration}", endpoint(sandbox, flows.oauth_start, session_query), methods=["GET"]),
        browser("/oauth/callback", flows.oauth_callback),
        browser("/sandbox/provider", connect_pages.provider),
        Route("/", connect_pages.show(sandbox), methods=["GET"]),
        Route("/sandbox/connect/{integration}", connect_pages.submit(sandbox), methods=["POST"]),
    ]


def _control_routes(sandbox: Sandbox) -> list[Route]:
    def route(method: str, path: str, handler: Handler) -> Route:
        return Route(path, endpoint(sandbox, handler, needs=(scopes.ALL,), limited=False), methods=[method])

    return [
        route("POST", "/sandbox/connections", controls.register_connection),
        route("GET", "/sandbox/connections/{connection_id:path}", grant_controls.get_grant),
        route("PATCH", "/sandbox/connections/{connection_id:path}", controls.change_connection),
        route("GET", "/sandbox/integrations/{integration}", grant_controls.get_rules),
        route("PUT", "/sandbox/integrations/{integration}", grant_controls.put_rules),
        route("POST", "/sandbox/provider/token", grant_controls.take_token),
        route("GET", "/sandbox/deliveries", controls.list_deliveries),
        route("GET", "/sandbox/faults", fault_controls.list_faults),
        route("POST", "/sandbox/faults", fault_controls.add_fault),
        route("DELETE", "/sandbox/faults", fault_controls.clear_faults),
        route("GET", "/sandbox/keys", keys.list_keys),
        route("POST", "/sandbox/keys", keys.create_key),
        route("DELETE", "/sandbox/keys", keys.delete_keys),
        route("GET", "/sandbox/settings", controls.get_settings),
        route("PATCH", "/sandbox/settings", controls.change_settings),
    ]


def _switches(config: SandboxConfig) -> dict[str, bool]:
    """Switches of a new environment (Nango contract: Webhook settings)."""
    return {
        "on_auth_creation": True,
        "on_auth_refresh_error": True,
        "on_sync_completion_always": True,
        "on_sync_error": True,
        "on_async_action_completion": True,
        "on_connection_deletion": config.deletion_events,
    }


def _open_store(config: SandboxConfig) -> Store:
    kept = statefile.load(config.state_file) if config.state_file else None
    saved_state = kept or SavedState(integrations=integrations.at_start(utc_now()))
    return Store(saved_state, replica_lag=config.replica_lag)


@contextlib.asynccontextmanager
async def _kept_state(sandbox: Sandbox) -> AsyncIterator[None]:
    if sandbox.config.state_file is None:
        yield
        return
    stopping = asyncio.Event()
    keeper = asyncio.create_task(statefile.keep(sandbox.config.state_file, sandbox.store, stopping=stopping))
    try:
        yield
    finally:
        stopping.set()
        await keeper


async def _health(_: Request) -> Response:
    return JSONResponse({"result": "ok"})


async def _no_such_route(request: Request, _error: Exception) -> Response:
    """Express's answer to an unknown route, and to a wrong method."""
    return Response(
        html_templates.not_found(request.method, request.url.path), status_code=404, headers=html_templates.HTML
    )


async def _unhandled(_request: Request, _error: Exception) -> Response:
    """Nango's answer to an internal error; uvicorn logs the traceback."""
    payload = {"id": str(uuid.uuid4())}
    return JSONResponse({"error": {"code": "generic_error_support", "payload": payload}}, status_code=500)
