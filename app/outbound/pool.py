"""Connections that are kept, by place. No request looks at more of them than it takes.

Who sends takes a connection out and puts it back. Nothing here waits for anybody: several destinations may stand at one
place, and one that hangs must not hold up the others. So who sends bounds how many are used.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from app.domain.addresses import Place
from app.outbound.http import Connection
from app.outbound.network import Connector

IDLE_SECONDS: Final = 15.0  # many servers hang up after 60 s, some after 5: what they hung up is not taken
MAX_AGE: Final = 300.0  # seconds; then the name is resolved and judged again


@dataclass(slots=True)
class Kept:
    """A connection of the pool, and when it was opened and put back last, by the loop's clock."""

    connection: Connection
    opened_at: float
    idle_since: float


class Pool:
    """Belongs to one event loop."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        # By scheme, host and port. The newest is taken first, so that the others can expire.
        self._idle: dict[tuple[str, str, int], deque[Kept]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, place: Place) -> Kept | None:
        """A kept connection for one exchange, where there is one."""
        now = asyncio.get_running_loop().time()
        idle = self._idle.get((place.scheme, place.host, place.port))
        while idle:
            kept = idle.pop()
            if self._good(kept, now):
                return kept
            kept.connection.abort()
        return None

    async def open(self, place: Place) -> Kept:
        """A new one. Raises Unreachable."""
        connection, now = await self._connector.connect(place), asyncio.get_running_loop().time()
        return Kept(connection, opened_at=now, idle_since=now)

    def put_back(self, place: Place, kept: Kept) -> None:
        """After an exchange: keep it, or let it go where its last answer was not read to the end."""
        loop = asyncio.get_running_loop()
        kept.idle_since = loop.time()
        kept.connection.rest()
        if not self._good(kept, kept.idle_since):
            kept.connection.abort()
            return
        self._idle.setdefault((place.scheme, place.host, place.port), deque()).append(kept)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._expire)

    @staticmethod
    def _good(kept: Kept, now: float) -> bool:
        young = now - kept.opened_at < MAX_AGE and now - kept.idle_since < IDLE_SECONDS
        return young and kept.connection.is_open

    def _expire(self) -> None:
        """Close what nobody took for a while, and forget places of which nothing is left."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        for key, idle in list(self._idle.items()):
            while idle and not self._good(idle[0], loop.time()):
                idle.popleft().connection.abort()
            if not idle:
                del self._idle[key]
        if self._idle:
            self._sweep = loop.call_later(IDLE_SECONDS, self._expire)

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for idle in self._idle.values():
            while idle:
                idle.pop().connection.abort()
