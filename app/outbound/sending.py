"""Hand one job over by signed HTTP: a POST, its answer's status and the beginning of its body; bounded in every way."""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from app.domain.addresses import Network, Place, read_url
from app.domain.delivery_answer import Answer
from app.domain.standard_webhooks import signed_headers
from app.errors import InvalidInput, Unreachable
from app.outbound.failure import Failure
from app.outbound.http import HungUp, Response
from app.outbound.network import Connector, Resolve, Resolver, trusting
from app.outbound.pool import Kept, Pool
from app.telemetry import escape_control

TIMEOUT: Final = 15.0  # seconds for the whole of a try, where a destination says nothing else
MAX_RETRY_AFTER: Final = 64  # characters; dates have 29
BODY_SECONDS: Final = 2.0  # for an answer's body: its status is what counts

_Exchange = tuple[Kept, Response]


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """Where a team takes jobs over HTTP. keys: signing keys, several during a rotation. timeout: seconds for a try."""

    url: str
    keys: Sequence[bytes] = field(repr=False)
    timeout: float = TIMEOUT


class HttpSender:
    """Sends from one event loop, over kept connections; any number of `send` may be under way at the same time.

    allowed: networks the operator opened. Each try is bounded by its target's time-out, connecting included. Who sends
    bounds how many are under way.
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
        self._pool = Pool(self._connector)
        self._clock = clock

    async def send(self, target: HttpTarget, *, message_id: str, body: bytes) -> Answer:
        """POST a body, signed at this moment. Whatever happens is an Answer; only cancelling raises.

        It takes the target's time-out and BODY_SECONDS at most.
        """
        started = time.monotonic()
        if not target.keys:
            return _failed(
                Failure.REFUSED, "it has no signing secret that can be read, and nothing leaves unsigned", started
            )
        try:
            place, opening = _opening(target.url)
        except InvalidInput as refused:
            return _failed(Failure.REFUSED, str(refused), started)
        request = self._request(opening, target, message_id, body)
        loop = asyncio.get_running_loop()
        try:
            kept, response = await self._exchange(place, request, until=loop.time() + target.timeout)
        except TimeoutError:
            return _failed(Failure.TIMED_OUT, f"no answer within {target.timeout:g} s", started)
        except Unreachable as unreachable:
            return _failed(Failure(unreachable.failure), str(unreachable), started)
        latency = _milliseconds_since(started)
        if not response.ended:  # of a body that is slow or long the status counts, which came
            await kept.connection.finish(response, until=loop.time() + BODY_SECONDS)
        self._pool.put_back(place, kept)
        return _answer(response, latency)

    async def reach(self, url: str) -> None:
        """Connect, TLS included, and hang up. Raises Unreachable or InvalidInput."""
        connection = await self._connector.connect(read_url(url))
        connection.abort()

    async def aclose(self) -> None:
        self._pool.close()
        self._resolver.close()

    def _request(self, opening: str, target: HttpTarget, message_id: str, body: bytes) -> bytes:
        signed = signed_headers(body, message_id=message_id, timestamp=int(self._clock()), keys=target.keys)
        rest = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        return f"{opening}content-length: {len(body)}\r\n{rest}\r\n".encode("ascii") + body

    async def _exchange(self, place: Place, request: bytes, *, until: float) -> _Exchange:
        """Raises TimeoutError, Unreachable."""
        kept = self._pool.take(place)
        if kept is not None:
            with suppress(HungUp):
                return kept, await kept.connection.ask(request, until=until)
            # The peer closed it just when it was used again. Whether it read the request nobody knows: the id is the
            # same, and receivers go by it.
        async with asyncio.timeout_at(until):
            kept = await self._pool.open(place)
        try:
            return kept, await kept.connection.ask(request, until=until)
        except HungUp:
            raise Unreachable(Failure.BROKEN, "it hung up without an answer") from None


def _answer(response: Response, latency: float) -> Answer:
    headers = response.headers
    retry_after = headers.get(b"retry-after")
    return Answer(
        status=response.status,
        latency_ms=latency,
        retry_after=None if retry_after is None else retry_after.decode("latin-1")[:MAX_RETRY_AFTER],
        excerpt=_shown(bytes(response.excerpt), headers.get(b"content-encoding", b"")),
    )


def _shown(excerpt: bytes, encoding: bytes) -> str:
    if excerpt and encoding.strip().lower() not in {b"", b"identity"}:
        return f"(not shown: its encoding is {escape_control(encoding.decode('latin-1'))[:40]})"
    return escape_control(excerpt.decode("utf-8", "replace"))


def _failed(failure: Failure, error: str, started: float) -> Answer:
    return Answer(error=error, ours=failure is Failure.REFUSED, latency_ms=_milliseconds_since(started))


def _milliseconds_since(started: float) -> float:
    return (time.monotonic() - started) * 1000


@lru_cache(4096)
def _opening(url: str) -> tuple[Place, str]:
    """Where a URL leads, and how each request to it begins. Raises InvalidInput.

    A URL that was read is visible ASCII only, so that it can end no line.
    """
    place = read_url(url)
    lines = (
        f"POST {place.target} HTTP/1.1",
        f"host: {place.authority}",
        "user-agent: waylink",
        "accept: */*",
        "accept-encoding: identity",  # nothing is unpacked here, so nothing can swell
        "content-type: application/json",
    )
    return place, "".join(f"{line}\r\n" for line in lines)
