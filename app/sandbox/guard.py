"""Steps before a handler: body, caller and rate limit, in Nango's order.

(Nango contract: Requests and errors; Rate limit)

Body and caller come before the limiter, so their refusals have no rate limit headers (seen in recordings).
"""

import asyncio
import hmac
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from app.sandbox import scopes
from app.sandbox.context import Caller, Endpoint, Handler, Sandbox, SandboxCall, utc_now
from app.sandbox.entities import SandboxSession
from app.sandbox.faults import Operation, Rule
from app.sandbox.wire import RefusedError, answer, read_json, read_query

Guard = Callable[[Sandbox, Request, datetime], Caller]

_CODES: Final = {401: "unknown_account", 403: "forbidden", 404: "not_found", 429: "too_many_request"}
_UUID4: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)


def api_key(sandbox: Sandbox, request: Request, now: datetime) -> Caller:  # noqa: ARG001  # one signature for all guards
    """One of the environment's API keys as Bearer token. The sandbox's own has all scopes."""
    key = _bearer(request)
    if not is_uuid4(key):
        raise _unauthorized("invalid_secret_key_format", "The provided secret key is not a UUID v4.")
    if hmac.compare_digest(key.lower().encode(), sandbox.config.api_key.lower().encode()):
        return Caller(sandbox=sandbox, scopes=(scopes.ALL,))
    known = sandbox.store.keys.get(key.lower())
    if known is None:
        raise _unauthorized("unknown_account", "The provided authorization header does not match any account.")
    return Caller(sandbox=sandbox.others.get(known.environment, sandbox), scopes=known.scopes)


def account_key(sandbox: Sandbox, request: Request, now: datetime) -> Caller:  # noqa: ARG001  # one signature for all guards
    """The account's API key as Bearer token; an environment's key is refused."""
    key, known = _bearer(request), sandbox.config.account_key
    if known is None or not hmac.compare_digest(key.lower().encode(), known.lower().encode()):
        raise _unauthorized("unknown_account", "The provided authorization header does not match any account.")
    return Caller(sandbox=sandbox, scopes=scopes.ACCOUNT_ALL)


def session_bearer(sandbox: Sandbox, request: Request, now: datetime) -> Caller:
    """A connect session's token as Bearer token."""
    return Caller(sandbox=sandbox, session=_session(sandbox, _bearer(request), now))


def session_query(sandbox: Sandbox, request: Request, now: datetime) -> Caller:
    """A connect session's token in the query, as in the auth flows."""
    token = request.query_params.get("connect_session_token")
    if token is None and "public_key" in request.query_params:
        words = "Public key authentication is deprecated. Please use connect session authentication instead."
        raise RefusedError(401, "deprecated_authentication", words)
    return Caller(sandbox=sandbox, session=_session(sandbox, token or "", now))


def public(sandbox: Sandbox, request: Request, now: datetime) -> Caller:  # noqa: ARG001  # one signature for all guards
    """No authentication, for a browser that a provider sent back: the handler checks its query."""
    return Caller(sandbox=sandbox)


def endpoint(
    sandbox: Sandbox,
    handler: Handler,
    guard: Guard = api_key,
    *,
    needs: tuple[str, ...] = (),
    operation: Operation | None = None,
    limited: bool = True,
) -> Endpoint:
    """A Starlette endpoint. needs: an API key needs one of these scopes. operation: for faults. `limited=False`: for
    the sandbox's own controls, which are not counted.
    """

    async def serve(request: Request) -> Response:
        now = utc_now()
        try:
            body = await read_json(request)
            caller = guard(sandbox, request, now)
        except RefusedError as refused:
            return refused.response(sandbox.courier)
        passed, headers = sandbox.limit.take(now) if limited else (True, {})
        if not passed:
            error = {"code": "too_many_request", "method": request.method, "path": request.url.path}
            response = answer(sandbox.courier, {"error": error}, status=429)
        else:
            call = SandboxCall(
                sandbox=caller.sandbox,
                request=request,
                body=body,
                query=read_query(request),
                now=now,
                session=caller.session,
                scopes=caller.scopes,
            )
            response = await _answered(handler, call, needs, operation)
        response.headers.update(headers)
        return response

    return serve


def is_uuid4(text: str) -> bool:
    return _UUID4.fullmatch(text) is not None


async def _answered(
    handler: Handler, call: SandboxCall, needs: tuple[str, ...], operation: Operation | None
) -> Response:
    try:
        if call.session is None:
            scopes.require(call.scopes, needs)
        rule = _fault(call, operation) if operation else None
        if rule is not None and rule.delay:
            await asyncio.sleep(rule.delay)
        if rule is not None and (rule.status or not rule.delay):
            return _faulty_answer(call, rule)
        return handler(call)
    except RefusedError as refused:
        return refused.response(call.sandbox.courier)


def _fault(call: SandboxCall, operation: Operation) -> Rule | None:
    """The rule for this call, by the integration and connection in its path, query or body."""
    body = call.body if isinstance(call.body, dict) else {}
    named = {**body, **call.query, **call.request.path_params}
    integration = named.get("provider_config_key") or named.get("integration_id") or named.get("integration")
    found = named.get("connection_id") or named.get("connectionId")
    ids: list[Any] = found if isinstance(found, list) and found else [found]
    for connection_id in ids:
        rule = call.sandbox.faults.match(operation, integration=integration, connection_id=connection_id, now=call.now)
        if rule is not None:
            return rule
    return None


def _faulty_answer(call: SandboxCall, rule: Rule) -> Response:
    status = rule.status or 500
    code = rule.code or _CODES.get(status, "server_error" if status >= 500 else "invalid_body")
    if status == 429:
        where = {"method": call.request.method, "path": call.request.url.path}
        response = answer(call.sandbox.courier, {"error": {"code": code, **where}}, status=status)
        response.headers["Retry-After"] = str(1 if rule.retry_after is None else rule.retry_after)
        return response
    return RefusedError(status, code, rule.message or "A fault of the sandbox's").response(call.sandbox.courier)


def _bearer(request: Request) -> str:
    header = request.headers.get("authorization")
    if not header:
        raise _unauthorized("missing_auth_header", "The request is missing the Authorization header.")
    return header.split("Bearer ")[-1].strip()


def _session(sandbox: Sandbox, token: str, now: datetime) -> SandboxSession:
    session = sandbox.store.session(token, now=now)
    if session is None:
        words = "The provided connect session token does not match any account."
        raise _unauthorized("unknown_connect_session_token", words)
    return session


def _unauthorized(code: str, reason: str) -> RefusedError:
    return RefusedError(401, code, f"Authentication failed. {reason}", payload={})
