"""How a batch of deliveries is committed: from the event loop on PostgreSQL, in a thread on SQLite.

The only asynchronous statements there are. Measured, the threaded way through the session cost four round trips and
took Python's lock back after each, while the event loop held it: ARCHITECTURE.md has the figures.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

import psycopg

from app.db.engine import Database
from app.db.storing import NewDelivery, PostgresStore, has_answered, is_away
from app.errors import DatabaseUnavailable
from app.services import intake
from app.services.intake import Receipt

STUCK_SECONDS: Final = 15.0  # longer than any request is held: then nobody waits for this commit any more


class Writer(Protocol):
    """Commits one batch at a time. Raises DatabaseUnavailable when trying again later may help."""

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]: ...

    def cut(self) -> None:
        """Give up the commit that is under way, if that can be done: it ends with DatabaseUnavailable."""

    async def close(self) -> None: ...


def writers_for(database: Database, window: timedelta, clock: Callable[[], datetime]) -> list[Writer]:
    """As many as can commit side by side: SQLite has one write lock, and a third brought nothing on PostgreSQL."""
    return [writer_for(database, window, clock) for _ in range(1 if database.is_sqlite else 2)]


def writer_for(database: Database, window: timedelta, clock: Callable[[], datetime]) -> Writer:
    if database.is_sqlite:
        return ThreadWriter(database, window, clock)
    return LoopWriter(database, window, clock)


@dataclass(slots=True)
class ThreadWriter:
    """One transaction of the synchronous data layer in a thread of its own."""

    database: Database
    window: timedelta
    clock: Callable[[], datetime]
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="commit"), init=False
    )

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, deliveries)

    def _commit(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        try:
            with self.database.write() as session:
                return intake.store(session, deliveries, window=self.window, now=self.clock())
        except Exception as failed:
            if is_away(failed):
                raise DatabaseUnavailable(failed) from failed
            raise

    def cut(self) -> None:
        """SQLite itself gives up when the lock stays taken (SQLITE_BUSY_SECONDS)."""

    async def close(self) -> None:
        self._thread.shutdown(wait=False)


@dataclass(slots=True)
class LoopWriter:
    """One connection of its own, which commits every statement."""

    database: Database
    window: timedelta
    clock: Callable[[], datetime]
    _connection: psycopg.AsyncConnection | None = field(default=None, init=False)
    _store: PostgresStore | None = field(default=None, init=False)

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        stuck = asyncio.get_running_loop().call_later(STUCK_SECONDS, self.cut)
        try:
            if self._store is None:
                self._connection = await self._connect()
                self._store = PostgresStore(self._connection)
            return await intake.store_at_once(self._store, deliveries, window=self.window, now=self.clock())
        except psycopg.Error as failed:
            await self.close()  # a new connection knows nothing of what went wrong with this one
            if not is_away(failed):
                raise
            raise DatabaseUnavailable(failed, answered=has_answered(failed)) from failed
        finally:
            stuck.cancel()

    async def _connect(self) -> psycopg.AsyncConnection:
        connection = await psycopg.AsyncConnection.connect(**self.database.driver_arguments, autocommit=True)
        # A worker that stands still may hold a duplicate's row; the others of a commit do not wait for it.
        await connection.execute("SET lock_timeout = '1s'")
        return connection

    def cut(self) -> None:
        # Not a cancelled task: psycopg would ask the frozen server to cancel, and wait for its answer.
        if self._connection is not None and not self._connection.closed:
            with socket.socket(fileno=os.dup(self._connection.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        connection, self._connection, self._store = self._connection, None, None
        if connection is not None:
            await connection.close()
