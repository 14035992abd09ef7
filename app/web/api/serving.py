"""The API as an ASGI application: checks of host, caller, scope and body, then the endpoint in a thread of a
small pool.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from app.db.errors import is_away
from app.db.idempotent_calls import CallKey
from app.domain.access import Access
from app.errors import WaylinkError
from app.outage_causes import of_database
from app.services.idempotency import Answer, IdempotentCalls, fingerprint_of
from app.telemetry import API_REQUESTS, get_logger
from app.web.api import openapi
from app.web.api.authentication import Authenticator
from app.web.api.endpoint import Call, Context, Endpoint
from app.web.api.pool import CallerLocks, CallPool
from app.web.api.problems import DATABASE_AWAY, FAULT, FORBIDDEN, MISDIRECTED, ApiRefusal, refusal_for
from app.web.api.reading import JSON_LINES, check_content_type, idempotency_key, read_body, read_content, read_query
from app.web.hosts import host_of

PREFIX: Final = "/api/v1"
DATABASE_THREADS: Final = 3  # they share Python's lock with the loop that receives webhooks
NANGO_THREADS: Final = 16  # each may wait for half a minute
PATTERN_THREADS: Final = 2  # each may compute for seconds, and has Python's lock meanwhile
HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

log = get_logger(__name__)


class Api:
    """Serves endpoints. hosts: the Host names that are accepted."""

    def __init__(
        self, context: Context, endpoints: Sequence[Endpoint], hosts: Collection[str], authenticator: Authenticator
    ) -> None:
        self.context, self._endpoints, self._hosts = context, endpoints, frozenset(hosts)
        self._database_pool = CallPool(DATABASE_THREADS, "api")
        self._nango_pool = CallPool(NANGO_THREADS, "api-nango")
        self._once = IdempotentCalls(context.database, context.clock, (WaylinkError, ApiRefusal))
        self._pattern_pool, self._caller_locks = CallPool(PATTERN_THREADS, "api-patterns"), CallerLocks()
        self.authenticator = authenticator
        self._document: bytes | None = None

    def routes(self) -> list[BaseRoute]:
        """Routes for Starlette, one per path: an unknown method of a known path is a 405."""
        paths: dict[str, dict[str, Endpoint]] = {}
        for declared in self._endpoints:
            paths.setdefault(declared.path, {})[declared.method] = declared
        found: list[BaseRoute] = [
            Route(f"{PREFIX}{path}", partial(self._serve, methods), methods=list(methods))
            for path, methods in sorted(paths.items(), key=literal_first)
        ]
        return [Route(f"{PREFIX}/openapi.json", self._describe, methods=["GET"]), *found]

    def close(self) -> None:
        self._database_pool.close()
        self._nango_pool.close()
        self._pattern_pool.close()
        self.authenticator.close()
        self.context.clients.close()
        self.context.database.close()
        if self.context.status_database is not None:
            self.context.status_database.close()

    async def _serve(self, methods: Mapping[str, Endpoint], request: Request) -> Response:
        wanted = methods["GET" if request.method == "HEAD" else request.method]
        return await self._answer(request, wanted.method, wanted.path, partial(self._carry_out, wanted))

    async def _describe(self, request: Request) -> Response:
        async def answer(request: Request) -> Response:
            await self.authenticator.access(request)
            if self._document is None:
                self._document = await self._database_pool.run(
                    lambda: msgspec.json.encode(openapi.document(self._endpoints, prefix=PREFIX))
                )
            return Response(self._document, media_type="application/json")

        return await self._answer(request, "GET", "/openapi.json", answer)

    async def _answer(
        self, request: Request, method: str, path: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """The answer, or the problem details of a raised error."""
        try:
            self._check_host(request)
            response = await answer(request)
        except ApiRefusal as refused:
            response = refused.response()
        except Exception as failed:  # noqa: BLE001 - answered and logged: the connection is not to be dropped
            response = _refused(failed, path)
        API_REQUESTS.labels(method, path, response.status_code).inc()
        response.headers.update(HEADERS)
        return response

    async def _carry_out(self, wanted: Endpoint, request: Request) -> Response:
        access = await self.authenticator.access(request)
        _check_scope(access, wanted)
        arguments: dict[str, Any] = {name: request.path_params[name] for name in wanted.parameters}
        content = b""
        query = read_query(request.scope["query_string"], wanted.query)
        key = idempotency_key(request) if wanted.writes else None
        if wanted.query is not None:
            arguments["query"] = query
        if wanted.body is not None:
            check_content_type(request.headers.get("content-type", ""))
            content = await read_content(request, wanted.body_limit)
        if wanted.lines:
            check_content_type(request.headers.get("content-type", ""), JSON_LINES)
            arguments["lines"] = content = await read_content(request, wanted.body_limit)
        call = Call(access, self.context)

        def carry_out() -> Answer:
            return Answer(wanted.status, _encoded(wanted, wanted.run(call, **arguments)))

        def work() -> Answer:
            if wanted.body is not None:  # in the thread: a large one would hold up the event loop
                arguments["body"] = read_body(content, wanted.body)
            if key is None:
                return carry_out()
            told = b"" if wanted.holds_secret else content
            path, query_string = request.url.path.encode(), request.scope["query_string"]
            fingerprint = fingerprint_of(wanted.method.encode(), path, query_string, told)
            return self._once.once(CallKey(access.actor, key), fingerprint, carry_out, keep=not wanted.holds_secret)

        if wanted.matches_patterns:
            async with self._caller_locks.of(f"the team {access.team}" if access.team else access.actor):
                found = await self._pattern_pool.run(work)
        else:
            found = await (self._nango_pool if wanted.asks_nango else self._database_pool).run(work)
        headers = {"idempotent-replayed": "true"} if found.repeated else None
        media_type = None if found.status == 204 else "application/json"
        return Response(found.body, found.status, headers, media_type)

    def _check_host(self, request: Request) -> None:
        host = host_of(request.headers.get("host", ""))
        if host not in self._hosts and "*" not in self._hosts:
            detail = "The API is not served under this host name; WAYLINK_ALLOWED_HOSTS lists those it is."
            raise ApiRefusal(MISDIRECTED, detail)


def _check_scope(access: Access, wanted: Endpoint) -> None:
    if access.allows(wanted.scope, teams=wanted.teams):
        return
    # RFC 6750, section 3.1.
    headers = {"www-authenticate": f'Bearer error="insufficient_scope", scope="{wanted.scope}"'}
    raise ApiRefusal(FORBIDDEN, f"This needs a token of the scope `{wanted.scope}`.", headers=headers)


def _encoded(wanted: Endpoint, found: Any) -> bytes:
    return b"" if wanted.status == 204 else msgspec.json.encode(found)


def _refused(failed: Exception, path: str) -> Response:
    refusal = refusal_for(failed) if isinstance(failed, WaylinkError) else None
    if refusal is None and is_away(failed):
        log.warning("api_database_away", path=path, problem=of_database(failed))
        refusal = ApiRefusal(DATABASE_AWAY, "The call came to nothing. Try again.", headers={"retry-after": "5"})
    if refusal is None:
        log.error("api_fault", path=path, exc_info=failed)
        refusal = ApiRefusal(FAULT, "It is logged. Try again; if it stays, look at the log of the web process.")
    return refusal.response()


def literal_first(item: tuple[str, Any]) -> tuple[str, ...]:
    """Sort key that puts `/users/import` before `/users/{user_id}`."""
    return tuple(f"~{part}" if part.startswith("{") else part for part in item[0].split("/"))
