"""Send one job or notification by HTTP: a POST, its answer's status and the beginning of its body.

Bounded in every way: time, sizes, redirects (none).
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from app.domain.addresses import HttpUrl, Network, read_url
from app.domain.delivery_answer import DeliveryAnswer
from app.domain.standard_webhooks import signed_headers
from app.domain.traceparent import HEADER
from app.errors import InvalidInput, Unreachable
from app.outbound.failure import Failure
from app.outbound.http_connection import HungUp, Response
from app.outbound.network import Connector, Resolve, Resolver, trusting
from app.outbound.pool import ConnectionPool, PooledConnection
from app.telemetry import escape_control

TIMEOUT: Final = 15.0  # seconds per attempt, unless the destination sets others
MAX_RETRY_AFTER: Final = 64  # characters; dates have 29
BODY_SECONDS: Final = 2.0  # for the body: the status alone decides

_Exchange = tuple[PooledConnection, Response]


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """An HTTP destination. `keys`: signing keys, several during a rotation. `timeout`: seconds per attempt.

    `unsigned`: its URL is a secret that says who sends, as those of chat rooms are.
    """

    url: str
    keys: Sequence[bytes] = field(repr=False)
    timeout: float = TIMEOUT
    unsigned: bool = False


class HttpSender:
    """Sends from one event loop, over kept connections; any number of `send` may run concurrently.

    `allowed`: networks that the operator opened.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[Network] = (),
        tls: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._resolver = Resolver()
        self._connector = Connector(resolve or self._resolver, tls or trusting(), tuple(allowed))
        self._pool = ConnectionPool(self._connector)
        self._clock = clock

    async def send(
        self, target: HttpTarget, *, message_id: str, body: bytes, traceparent: str | None = None
    ) -> DeliveryAnswer:
        """POST a body, signed with the current time unless its target is not. Failures are answers too; only
        cancelling raises.

        traceparent: well formed, as the value of a header.

        Takes at most the target's timeout, connecting included, and BODY_SECONDS.
        """
        started = time.monotonic()
        if not target.keys and not target.unsigned:
            return _failed(
                Failure.REFUSED, "it has no signing secret that can be read, and nothing leaves unsigned", started
            )
        try:
            url, opening = _opening(target.url)
        except InvalidInput as refused:
            return _failed(Failure.REFUSED, str(refused), started)
        request = self._request(opening, target, message_id, body, traceparent)
        loop = asyncio.get_running_loop()
        try:
            kept, response = await self._exchange(url, request, until=loop.time() + target.timeout)
        except TimeoutError:
            return _failed(Failure.TIMED_OUT, f"no answer within {target.timeout:g} s", started)
        except Unreachable as unreachable:
            return _failed(Failure(unreachable.failure), str(unreachable), started)
        latency = _milliseconds_since(started)
        if not response.ended:  # a slow or long body does not matter: the status is there
            await kept.connection.finish(response, until=loop.time() + BODY_SECONDS)
        self._pool.put_back(url, kept)
        return _answer(response, latency)

    async def reach(self, url: str) -> None:
        """Connect, TLS included, and close. Raises Unreachable, InvalidInput."""
        connection = await self._connector.connect(read_url(url))
        connection.abort()

    async def aclose(self) -> None:
        self._pool.close()
        self._resolver.close()

    def _request(
        self, opening: str, target: HttpTarget, message_id: str, body: bytes, traceparent: str | None
    ) -> bytes:
        signed: Mapping[str, str] = {}
        if not target.unsigned:
            signed = signed_headers(body, message_id=message_id, timestamp=int(self._clock()), keys=target.keys)
        if traceparent is not None:
            signed = {**signed, HEADER: traceparent}
        rest = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        return f"{opening}content-length: {len(body)}\r\n{rest}\r\n".encode("ascii") + body

    async def _exchange(self, url: HttpUrl, request: bytes, *, until: float) -> _Exchange:
        """Send over a kept connection or a new one. Raises TimeoutError, Unreachable."""
        kept = self._pool.take(url)
        if kept is not None:
            with suppress(HungUp):
                return kept, await kept.connection.ask(request, until=until)
            # The peer closed it while it was idle. If it read the request after all, receivers see the same id again.
        async with asyncio.timeout_at(until):
            kept = await self._pool.open(url)
        try:
            return kept, await kept.connection.ask(request, until=until)
        except HungUp:
            raise Unreachable(Failure.BROKEN, "it hung up without an answer") from None


def _answer(response: Response, latency: float) -> DeliveryAnswer:
    headers = response.headers
    retry_after = headers.get(b"retry-after")
    return DeliveryAnswer(
        status=response.status,
        latency_ms=latency,
        retry_after=None if retry_after is None else retry_after.decode("latin-1")[:MAX_RETRY_AFTER],
        excerpt=_shown(bytes(response.excerpt), headers.get(b"content-encoding", b"")),
    )


def _shown(excerpt: bytes, encoding: bytes) -> str:
    if excerpt and encoding.strip().lower() not in {b"", b"identity"}:
        return f"(not shown: its encoding is {escape_control(encoding.decode('latin-1'))[:40]})"
    return escape_control(excerpt.decode("utf-8", "replace"))


def _failed(failure: Failure, error: str, started: float) -> DeliveryAnswer:
    return DeliveryAnswer(error=error, ours=failure is Failure.REFUSED, latency_ms=_milliseconds_since(started))


def _milliseconds_since(started: float) -> float:
    return (time.monotonic() - started) * 1000


@lru_cache(4096)
def _opening(url: str) -> tuple[HttpUrl, str]:
    """A parsed URL, and the constant first lines of its requests. Raises InvalidInput.

    A parsed URL is visible ASCII only, so it cannot contain a line break.
    """
    parsed = read_url(url)
    lines = (
        f"POST {parsed.target} HTTP/1.1",
        f"host: {parsed.authority}",
        "user-agent: waylink",
        "accept: */*",
        "accept-encoding: identity",  # nothing is decompressed, so a small body cannot become a large one
        "content-type: application/json",
    )
    return parsed, "".join(f"{line}\r\n" for line in lines)
