"""Store verified deliveries, each once: a batch in one transaction, from the event loop or, on SQLite, in a thread.

The only asynchronous statements of Waylink. A session in a thread cost four round trips, and waited for Python's lock
after each, while the event loop held it (docs/benchmarks.md has the figures).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol, TypeVar
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import ingest
from app.db.engine import SQLITE_BUSY_SECONDS, Database
from app.db.errors import has_answered, is_away
from app.db.ingest import DeliveryKey, KnownEvent, NewDelivery, NewRepeat, PostgresStore
from app.errors import DatabaseUnavailable

# Less than a request is held, so that what waited on a dead connection is stored over another one.
STUCK_SECONDS: Final = 8.0
STATEMENT_SECONDS: Final = STUCK_SECONDS - 1  # in the server, so that a statement given up here does not go on there
STUCK_FILE_SECONDS: Final = SQLITE_BUSY_SECONDS + 5.0  # SQLite gives up earlier, unless the disk hangs

T = TypeVar("T")


class Receipt(NamedTuple):
    """The answer to a stored delivery. duplicate: the event was stored before."""

    event_id: UUID
    duplicate: bool


class Writer(Protocol):
    """Commits one batch at a time, each within a bound. Raises DatabaseUnavailable where a later try may succeed."""

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]: ...

    async def probe(self) -> None:
        """Commit a write that changes nothing, as deliveries are committed. Raises as `store` does."""

    def cut(self) -> None:
        """End a commit in progress at once with DatabaseUnavailable. Never fails."""

    async def close(self) -> None:
        """Close at once, in any state of the database."""


def writers_for(database: Database, window: timedelta, clock: Callable[[], datetime]) -> list[Writer]:
    """One writer for SQLite, which has one write lock, and two for PostgreSQL, where a third brought nothing."""
    return [writer_for(database, window, clock) for _ in range(1 if database.is_sqlite else 2)]


def writer_for(database: Database, window: timedelta, clock: Callable[[], datetime]) -> Writer:
    if database.is_sqlite:
        return ThreadWriter(database, window, clock)
    return LoopWriter(database, window, clock)


@dataclass(slots=True)
class _Bound:
    """A bound in time on a writer's work. It ends the wait itself, so the work need not notice a dead connection."""

    _now: asyncio.Timeout | None = field(default=None, init=False)

    async def run(self, work: Awaitable[T], seconds: float) -> T:
        """Return the work's result. Raises DatabaseUnavailable after so many seconds, or at `cut`."""
        try:
            async with asyncio.timeout(seconds) as self._now:
                return await work
        except TimeoutError as late:
            raise DatabaseUnavailable(late) from late
        finally:
            self._now = None

    def cut(self) -> None:
        if self._now is not None:
            with suppress(RuntimeError):  # it has expired already
                self._now.reschedule(0)


@dataclass(slots=True)
class ThreadWriter:
    """Commits by a transaction of the synchronous data layer, in a thread of its own."""

    database: Database
    window: timedelta
    clock: Callable[[], datetime]
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="commit"), init=False
    )
    _bound: _Bound = field(default_factory=_Bound, init=False)

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        return await self._run(lambda: self._commit(deliveries))

    async def probe(self) -> None:
        await self._run(self._probe)

    def cut(self) -> None:
        """End the wait. The thread goes on, and what it commits later is stored as well."""
        self._bound.cut()

    async def close(self) -> None:
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            done = asyncio.get_running_loop().run_in_executor(self._thread, work)
            return await self._bound.run(done, STUCK_FILE_SECONDS)
        except Exception as failed:
            if is_away(failed):
                raise DatabaseUnavailable(failed) from failed
            raise

    def _commit(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        with self.database.write() as session:
            return store(session, deliveries, window=self.window, now=self.clock())

    def _probe(self) -> None:
        with self.database.write() as session:
            ingest.probe(session)


@dataclass(slots=True)
class LoopWriter:
    """Commits by single statements from the event loop, over a connection of its own."""

    database: Database
    window: timedelta
    clock: Callable[[], datetime]
    _store: PostgresStore | None = field(default=None, init=False)
    _bound: _Bound = field(default_factory=_Bound, init=False)

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        return await self._run(self._commit(deliveries))

    async def probe(self) -> None:
        await self._run(self._probe())

    def cut(self) -> None:
        self._bound.cut()

    async def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    async def _run(self, work: Awaitable[T]) -> T:
        try:
            return await self._bound.run(work, STUCK_SECONDS)
        except Exception as failed:
            await self.close()  # the connection may be broken; the next batch opens another
            if not is_away(failed):
                raise
            raise DatabaseUnavailable(failed, answered=has_answered(failed)) from failed

    async def _commit(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        """Store the deliveries, then count duplicates in a commit of their own.

        No delivery is answered before both, so after a crash in between the sender repeats what was not counted.
        """
        connection = await self._connected()
        now, first = self.clock(), _first_of_each(deliveries)
        known = await connection.store(list(first.values()), cutoff=now - self.window)
        receipts = _receipts(deliveries, first, known)
        if repeated := _repeated(deliveries, receipts, known):
            await connection.repeat(repeated, now=now)
        return receipts

    async def _probe(self) -> None:
        await (await self._connected()).probe()

    async def _connected(self) -> PostgresStore:
        if self._store is None or self._store.is_lost:
            self._store = None
            self._store = await PostgresStore.connect(self.database)
        return self._store


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[Receipt]:
    """Store the deliveries in one transaction, for SQLite. Returns a receipt for each, in order (promise 4)."""
    first = _first_of_each(deliveries)
    known = ingest.store(session, list(first.values()), cutoff=now - window)
    receipts = _receipts(deliveries, first, known)
    if repeated := _repeated(deliveries, receipts, known):
        ingest.repeat(session, repeated, now=now)
    return receipts


def _first_of_each(deliveries: Sequence[NewDelivery]) -> dict[DeliveryKey, NewDelivery]:
    """The first of equal deliveries: one upsert may not touch a row twice."""
    first: dict[DeliveryKey, NewDelivery] = {}
    for delivery in deliveries:
        first.setdefault((delivery.environment, delivery.fingerprint), delivery)
    return first


def _receipts(
    deliveries: Sequence[NewDelivery], first: Mapping[DeliveryKey, NewDelivery], known: Mapping[DeliveryKey, KnownEvent]
) -> list[Receipt]:
    if not known and len(first) == len(deliveries):
        return [Receipt(delivery.event_id, False) for delivery in deliveries]
    stored = {key: known[key].event_id if key in known else delivery.event_id for key, delivery in first.items()}
    receipts = []
    for delivery in deliveries:
        event_id = stored[delivery.environment, delivery.fingerprint]
        receipts.append(Receipt(event_id, event_id != delivery.event_id))
    return receipts


def _repeated(
    deliveries: Sequence[NewDelivery], receipts: Sequence[Receipt], known: Mapping[DeliveryKey, KnownEvent]
) -> list[NewRepeat]:
    """The repeats, in order. A worker decides of each whether it is an event of its own."""
    return [
        NewRepeat(
            receipt.event_id,
            delivery.event_id,
            _first_by(delivery, known),
            delivery.taken_by,
            delivery.received_at,
            delivery.traceparent,
        )
        for delivery, receipt in zip(deliveries, receipts, strict=True)
        if receipt.duplicate
    ]


def _first_by(delivery: NewDelivery, known: Mapping[DeliveryKey, KnownEvent]) -> UUID:
    """The web process that took the first delivery of these bytes: a stored one, or one of the same batch."""
    first = known.get((delivery.environment, delivery.fingerprint))
    return first.taken_by if first else delivery.taken_by
