"""From a request to a handler's answer: body, who calls, rate limit, in Nango's order (CONTRACT 3.1).

Body and caller come before the limiter, so their refusals carry no rate limit headers (seen in recordings).
"""

import hmac
import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from app.sandbox.context import Call, Endpoint, Handler, Sandbox, utc_now
from app.sandbox.values import Session
from app.sandbox.wire import RefusedError, answer, read_json, read_query

Guard = Callable[[Sandbox, Request, datetime], Session | None]

_UUID4: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)


def api_key(sandbox: Sandbox, request: Request, now: datetime) -> None:  # noqa: ARG001  # one signature for all guards
    """The environment's API key as Bearer token."""
    key = _bearer(request)
    if not is_uuid4(key):
        raise _unauthorized("invalid_secret_key_format", "The provided secret key is not a UUID v4.")
    if not hmac.compare_digest(key.lower().encode(), sandbox.config.api_key.lower().encode()):
        raise _unauthorized("unknown_account", "The provided authorization header does not match any account.")


def session_bearer(sandbox: Sandbox, request: Request, now: datetime) -> Session:
    """A connect session's token as Bearer token."""
    return _session(sandbox, _bearer(request), now)


def session_query(sandbox: Sandbox, request: Request, now: datetime) -> Session:
    """A connect session's token in the query, where the auth flows carry it."""
    return _session(sandbox, request.query_params.get("connect_session_token", ""), now)


def endpoint(sandbox: Sandbox, handler: Handler, guard: Guard = api_key, *, limited: bool = True) -> Endpoint:
    """A Starlette endpoint. `limited=False` is for the sandbox's own controls, which spend no budget."""

    async def serve(request: Request) -> Response:
        now = utc_now()
        try:
            body = await read_json(request)
            session = guard(sandbox, request, now)
        except RefusedError as refused:
            return refused.response(sandbox.courier)
        passed, headers = sandbox.limit.take(now) if limited else (True, {})
        if not passed:
            error = {"code": "too_many_request", "method": request.method, "path": request.url.path}
            response = answer(sandbox.courier, {"error": error}, status=429)
        else:
            call = Call(
                sandbox=sandbox, request=request, body=body, query=read_query(request), now=now, session=session
            )
            response = _handled(handler, call)
        response.headers.update(headers)
        return response

    return serve


def is_uuid4(text: str) -> bool:
    return _UUID4.fullmatch(text) is not None


def _handled(handler: Handler, call: Call) -> Response:
    try:
        return handler(call)
    except RefusedError as refused:
        return refused.response(call.sandbox.courier)


def _bearer(request: Request) -> str:
    header = request.headers.get("authorization")
    if not header:
        raise _unauthorized("missing_auth_header", "The request is missing the Authorization header.")
    return header.split("Bearer ")[-1].strip()


def _session(sandbox: Sandbox, token: str, now: datetime) -> Session:
    session = sandbox.store.session(token, now=now)
    if session is None:
        words = "The provided connect session token does not match any account."
        raise _unauthorized("unknown_connect_session_token", words)
    return session


def _unauthorized(code: str, reason: str) -> RefusedError:
    return RefusedError(401, code, f"Authentication failed. {reason}", payload={})
