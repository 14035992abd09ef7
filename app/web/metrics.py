"""`/metrics`, for Prometheus: with an API token, or on an address of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from app.domain.access import Scope
from app.web.api.authentication import Authenticator
from app.web.api.problems import FORBIDDEN, ApiRefusal

SCRAPE_SECONDS: Final = 8.0  # Prometheus waits for ten
AT_ONCE: Final = 4  # scrapes; a further one is refused
_PROXY_HEADERS: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


@dataclass(slots=True)
class MetricsEndpoint:
    """Serves the text of `render`. It needs a token of the scope viewer, or `open_metrics` and a local request."""

    authenticator: Authenticator
    render: Callable[[], bytes]
    open_metrics: bool = False
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="metrics"))
    _running: int = field(default=0, init=False)

    async def metrics(self, request: Request) -> Response:
        if not (self.open_metrics and _is_local(request)):
            try:
                access = await self.authenticator.access(request)
            except ApiRefusal as refused:
                return refused.response()
            if not access.allows(Scope.VIEWER):
                return ApiRefusal(FORBIDDEN, "This needs a token of the scope `viewer`, and not of a team.").response()
        return await self.open(request)

    async def open(self, _request: Request) -> Response:
        """The metrics, without a look at who asks."""
        if self._running >= AT_ONCE:
            return _unavailable("Other scrapes are being answered.")
        # Each reads for itself: the answer of a read that began before another process's was given could be older.
        self._running += 1
        rendering = asyncio.get_running_loop().run_in_executor(self._threads, self.render)
        rendering.add_done_callback(self._ended)
        done, _ = await asyncio.wait([rendering], timeout=SCRAPE_SECONDS)
        if not done:
            return _unavailable("The database does not answer in time.")
        return Response(rendering.result(), media_type=CONTENT_TYPE_LATEST)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, _rendering: object) -> None:
        self._running -= 1


def _unavailable(why: str) -> Response:
    return PlainTextResponse(f"{why}\n", 503, {"retry-after": "5"})


def _is_local(request: Request) -> bool:
    """Whether a request comes from this machine, as far as can be told: a local proxy may add no header."""
    proxied = any(name in request.headers for name in _PROXY_HEADERS)
    return not proxied and request.client is not None and request.client.host in {"127.0.0.1", "::1"}
