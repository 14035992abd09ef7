"""Idle connections, by scheme, host and port. Taking one costs the same however many there are.

The pool has no limit and never waits: several destinations may share a host, and one that hangs must not delay the
others. The number of connections in use is limited by `Slots`.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from app.domain.addresses import HttpUrl
from app.outbound.http_connection import HttpConnection
from app.outbound.network import Connector

IDLE_SECONDS: Final = 15.0  # many servers hang up after 60 s, some after 5; a connection they closed is not taken
MAX_AGE: Final = 300.0  # seconds; then the name is resolved and checked again


@dataclass(slots=True)
class PooledConnection:
    """A connection, with the times when it was opened and last put back, by the loop's clock."""

    connection: HttpConnection
    opened_at: float
    idle_since: float


class ConnectionPool:
    """Belongs to one event loop."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        # The newest is taken first, so that the others can expire.
        self._idle: dict[tuple[str, str, int], deque[PooledConnection]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def take(self, url: HttpUrl) -> PooledConnection | None:
        """An idle connection for one exchange, or None."""
        now = asyncio.get_running_loop().time()
        idle = self._idle.get((url.scheme, url.host, url.port))
        while idle:
            kept = idle.pop()
            if self._good(kept, now):
                return kept
            kept.connection.abort()
        return None

    async def open(self, url: HttpUrl) -> PooledConnection:
        """A new connection. Raises Unreachable."""
        connection, now = await self._connector.connect(url), asyncio.get_running_loop().time()
        return PooledConnection(connection, opened_at=now, idle_since=now)

    def put_back(self, url: HttpUrl, kept: PooledConnection) -> None:
        """Keep a connection after an exchange, or close it if it cannot be used again."""
        loop = asyncio.get_running_loop()
        kept.idle_since = loop.time()
        kept.connection.rest()
        if not self._good(kept, kept.idle_since):
            kept.connection.abort()
            return
        self._idle.setdefault((url.scheme, url.host, url.port), deque()).append(kept)
        if self._sweep is None:
            self._sweep = loop.call_later(IDLE_SECONDS, self._expire)

    @staticmethod
    def _good(kept: PooledConnection, now: float) -> bool:
        young = now - kept.opened_at < MAX_AGE and now - kept.idle_since < IDLE_SECONDS
        return young and kept.connection.is_open

    def _expire(self) -> None:
        """Close connections that were idle too long, and forget hosts without any."""
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
