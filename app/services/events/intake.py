"""Store verified deliveries, each once: a batch in one transaction, from the event loop or, on SQLite, in a thread.

The only asynchronous statements there are. Measured, the threaded way through the session cost four round trips and
took Python's lock back after each, while the event loop held it: docs/benchmarks.md has the figures.
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
from app.db.ingest import Key, Known, NewDelivery, PostgresStore, Repeated
from app.errors import DatabaseUnavailable

# Less than a request is held: what waited for a connection that died silently is stored over another one.
STUCK_SECONDS: Final = 8.0
STATEMENT_SECONDS: Final = STUCK_SECONDS - 1  # in the server: what is given up here does not go on there
STUCK_FILE_SECONDS: Final = SQLITE_BUSY_SECONDS + 5.0  # SQLite itself gives up earlier, unless the disk stands still

T = TypeVar("T")


class Receipt(NamedTuple):
    """What a stored delivery is answered with. `duplicate` means that the event was there before."""

    event_id: UUID
    duplicate: bool


class Writer(Protocol):
    """Commits one batch at a time, each within a bound. Raises DatabaseUnavailable when trying again later may help."""

    async def store(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]: ...

    async def probe(self) -> None:
        """Commit a write that changes nothing, the way deliveries are committed. Raises as `store` does."""

    def cut(self) -> None:
        """Give up what is under way, if anything is: it ends at once with DatabaseUnavailable. Never fails."""

    async def close(self) -> None:
        """At once, whatever the state of the database."""


def writers_for(database: Database, window: timedelta, clock: Callable[[], datetime]) -> list[Writer]:
    """As many as can commit side by side: SQLite has one write lock, and a third brought nothing on PostgreSQL."""
    return [writer_for(database, window, clock) for _ in range(1 if database.is_sqlite else 2)]


def writer_for(database: Database, window: timedelta, clock: Callable[[], datetime]) -> Writer:
    if database.is_sqlite:
        return ThreadWriter(database, window, clock)
    return LoopWriter(database, window, clock)


@dataclass(slots=True)
class _Bound:
    """The bound on what a writer does now. It ends the wait by itself: whatever is waited for need not notice."""

    _now: asyncio.Timeout | None = field(default=None, init=False)

    async def run(self, work: Awaitable[T], seconds: float) -> T:
        """Its result. Raises DatabaseUnavailable after that many seconds, or when it is cut."""
        try:
            async with asyncio.timeout(seconds) as self._now:
                return await work
        except TimeoutError as late:
            raise DatabaseUnavailable(late) from late
        finally:
            self._now = None

    def cut(self) -> None:
        if self._now is not None:
            with suppress(RuntimeError):  # it is ending already
                self._now.reschedule(0)


@dataclass(slots=True)
class ThreadWriter:
    """One transaction of the synchronous data layer in a thread of its own."""

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
        """The thread goes on, and what it commits later is stored all the same."""
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
    """Statements from the event loop, over a connection of its own, which commits each."""

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
            await self.close()  # a new connection knows nothing of what went wrong with this one
            if not is_away(failed):
                raise
            raise DatabaseUnavailable(failed, answered=has_answered(failed)) from failed

    async def _commit(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        """Duplicates are counted in a commit of their own.

        No delivery is answered before both, so a crash in between makes the sender repeat what was not counted yet.
        """
        database = await self._connected()
        now, first = self.clock(), _first_of_each(deliveries)
        known = await database.store(list(first.values()), cutoff=now - self.window)
        receipts = _receipts(deliveries, first, known)
        if repeated := _repeated(deliveries, receipts, known):
            await database.repeat(repeated, now=now)
        return receipts

    async def _probe(self) -> None:
        await (await self._connected()).probe()

    async def _connected(self) -> PostgresStore:
        if self._store is None or self._store.is_lost:
            self._store = None
            self._store = await PostgresStore.connect(self.database)
        return self._store


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[Receipt]:
    """Store all in one transaction of SQLite's; answer each, in order (promise 4)."""
    first = _first_of_each(deliveries)
    known = ingest.store(session, list(first.values()), cutoff=now - window)
    receipts = _receipts(deliveries, first, known)
    if repeated := _repeated(deliveries, receipts, known):
        ingest.repeat(session, repeated, now=now)
    return receipts


def _first_of_each(deliveries: Sequence[NewDelivery]) -> dict[Key, NewDelivery]:
    """Equal deliveries are collapsed: one upsert may not touch a row twice."""
    first: dict[Key, NewDelivery] = {}
    for one in deliveries:
        first.setdefault((one.environment, one.fingerprint), one)
    return first


def _receipts(
    deliveries: Sequence[NewDelivery], first: Mapping[Key, NewDelivery], known: Mapping[Key, Known]
) -> list[Receipt]:
    if not known and len(first) == len(deliveries):
        return [Receipt(one.event_id, False) for one in deliveries]
    stored = {key: known[key].event_id if key in known else one.event_id for key, one in first.items()}
    receipts = []
    for one in deliveries:
        event_id = stored[one.environment, one.fingerprint]
        receipts.append(Receipt(event_id, event_id != one.event_id))
    return receipts


def _repeated(
    deliveries: Sequence[NewDelivery], receipts: Sequence[Receipt], known: Mapping[Key, Known]
) -> list[Repeated]:
    """Those that came before, in order. Of each a worker decides whether it is an event of its own."""
    return [
        Repeated(receipt.event_id, one.event_id, _first_by(one, known), one.taken_by, one.received_at)
        for one, receipt in zip(deliveries, receipts, strict=True)
        if receipt.duplicate
    ]


def _first_by(one: NewDelivery, known: Mapping[Key, Known]) -> UUID:
    """Who took the first of its bytes. Where that is none that is known, it came in the same batch."""
    first = known.get((one.environment, one.fingerprint))
    return first.taken_by if first else one.taken_by
