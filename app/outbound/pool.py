"""Connections that are kept, by place. No request looks at more of them than it takes.

Who sends takes a connection out and puts it back. Nothing here waits for anybody: several destinations may stand at one
place, and one that hangs must not hold up the others. So who sends bounds how many are used.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from app.domain.addresses import Place
from app.outbound.http import Connection
from app.outbound.network import Connector

IDLE_SECONDS: Final = 15.0  # many servers hang up after 60 s, some after 5: what they hung up is not taken
MAX_AGE: Final = 300.0  # seconds; then the name is resolved and judged again


@dataclass(slots=True)
class Kept:
    """A connection of the pool. `used`: it has served before, so its peer may have hung up just now."""

    connection: Connection
    opened_at: float
    idle_since: float = 0.0
    used: bool = False


@dataclass(slots=True)
class _Shelf:
    """What there is of one place. The newest is taken first, so that the others can expire."""

    idle: deque[Kept] = field(default_factory=deque)
    users: int = 0


class Pool:
    """Belongs to one event loop."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._shelves: dict[tuple[str, str, int], _Shelf] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @contextmanager
    def using(self, place: Place) -> Iterator[None]:
        """While it lasts, what is kept of a place stays. How many use it at a time is bounded by who sends."""
        shelf = self._shelves.setdefault((place.scheme, place.host, place.port), _Shelf())
        shelf.users += 1
        try:
            yield
        finally:
            shelf.users -= 1

    async def take(self, place: Place, *, fresh: bool = False) -> Kept:
        """A connection for one exchange, kept or new. Raises Unreachable."""
        now = asyncio.get_running_loop().time()
        shelf = self._shelves[place.scheme, place.host, place.port]
        while shelf.idle and not fresh:
            kept = shelf.idle.pop()
            if self._good(kept, now):
                return kept
            kept.connection.abort()
        return Kept(await self._connector.connect(place), opened_at=now, idle_since=now)

    def put_back(self, place: Place, kept: Kept) -> None:
        """After an exchange: keep it, or let it go where its last answer was not read to the end."""
        loop = asyncio.get_running_loop()
        kept.used, kept.idle_since = True, loop.time()
        kept.connection.rest()
        if not self._good(kept, kept.idle_since):
            kept.connection.abort()
            return
        self._shelves[place.scheme, place.host, place.port].idle.append(kept)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._expire)

    @staticmethod
    def _good(kept: Kept, now: float) -> bool:
        young = now - kept.opened_at < MAX_AGE and now - kept.idle_since < IDLE_SECONDS
        return young and kept.connection.is_open

    def _expire(self) -> None:
        """Close what nobody took for a while, and forget places that nobody sends to."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        for key, shelf in list(self._shelves.items()):
            while shelf.idle and not self._good(shelf.idle[0], loop.time()):
                shelf.idle.popleft().connection.abort()
            if not shelf.idle and not shelf.users:
                del self._shelves[key]
        if any(shelf.idle for shelf in self._shelves.values()):
            self._sweep = loop.call_later(IDLE_SECONDS, self._expire)

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for shelf in self._shelves.values():
            while shelf.idle:
                shelf.idle.pop().connection.abort()
