"""One commit for all requests that wait: the disk's flush is shared, and 202 still means stored (promise 1).

A flush starts as soon as the one before has ended, without a timer: a 2 ms linger was measured slower. While the
database is away, requests are held for a while instead of refused, because Nango drops everything for a minute after
six quick failures (CONTRACT 1.6).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from app.broker import PROCESS_EVENTS, Broker, hint
from app.db.engine import Database
from app.db.storing import NewDelivery
from app.deadlines import BATCH
from app.errors import BrokerUnavailable
from app.ids import EVENT, new_id, show
from app.services.intake import Receipt, store
from app.telemetry import HINTS_LOST, STORE_SECONDS, get_logger

HOLD_SECONDS: Final = 12.0  # Nango waits 20 s for an answer
MAX_WAITING: Final = 4000  # requests
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
RETRY_SECONDS: Final = 0.25
OVERDUE_SECONDS: Final = 1.0  # between two looks for requests that a stuck commit keeps too long

log = get_logger(__name__)


class StoreUnavailable(Exception):
    """Storing stayed impossible for as long as the request may be held, or too many wait already."""


@dataclass(slots=True)
class _Waiting:
    delivery: NewDelivery
    receipt: asyncio.Future[Receipt]
    since: float
    give_up_at: float


@dataclass(slots=True)
class GroupCommit:
    """Takes verified deliveries and answers each once it is committed."""

    database: Database
    broker: Broker
    window: timedelta
    clock: Callable[[], datetime]
    hold_seconds: float = HOLD_SECONDS
    _waiting: deque[_Waiting] = field(default_factory=deque, init=False)
    _bytes: int = field(default=0, init=False)
    _hints: list[UUID] = field(default_factory=list, init=False)
    _work: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    _writer: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="commit"), init=False
    )
    _sender: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="publish"), init=False
    )

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._commit_loop()), asyncio.create_task(self._publish_loop())]

    async def stop(self) -> None:
        """Commit what waits, announce what was committed, end."""
        self._stopping = True
        self._work.set()
        self._news.set()
        await asyncio.gather(*self._tasks)
        self._writer.shutdown()
        self._sender.shutdown()

    async def store(self, delivery: NewDelivery, *, arrived: float | None = None) -> Receipt:
        """Return once the delivery is committed. Raises StoreUnavailable.

        arrived: on the loop's clock; whoever took long to read has that much less to be held.
        """
        if self._stopping or len(self._waiting) >= MAX_WAITING or self._bytes + len(delivery.body) > MAX_WAITING_BYTES:
            raise StoreUnavailable
        loop = asyncio.get_running_loop()
        now = loop.time()
        give_up_at = (now if arrived is None else arrived) + self.hold_seconds
        one = _Waiting(delivery, loop.create_future(), now, give_up_at)
        self._waiting.append(one)
        self._bytes += len(delivery.body)
        self._work.set()
        try:
            return await one.receipt
        finally:
            self._bytes -= len(delivery.body)

    async def _commit_loop(self) -> None:
        while self._waiting or not self._stopping:
            if not self._waiting:
                self._work.clear()
                await self._work.wait()
                continue
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            try:
                receipts = await self._committed(batch)
            except (OperationalError, InterfaceError) as away:
                await self._hold(batch, away)
            except Exception:
                log.exception("batch_not_stored", requests=len(batch), then="each is stored alone")
                await self._commit_each(batch)
            else:
                self._answer(batch, receipts)

    async def _committed(self, batch: Sequence[_Waiting]) -> list[Receipt]:
        """Commit in the writer's thread. A frozen database may never answer; nobody is kept waiting for it."""
        loop = asyncio.get_running_loop()
        commit = loop.run_in_executor(self._writer, self._commit, [one.delivery for one in batch])
        while not (await asyncio.wait([commit], timeout=OVERDUE_SECONDS))[0]:
            now = loop.time()
            for one in (*batch, *self._waiting):
                if now >= one.give_up_at and not one.receipt.done():
                    one.receipt.set_exception(StoreUnavailable())
            while self._waiting and self._waiting[0].receipt.done():  # the oldest stand first
                self._waiting.popleft()
        return commit.result()

    async def _hold(self, batch: Sequence[_Waiting], away: DBAPIError) -> None:
        """The database is away: those who may wait longer go back to the head of the queue."""
        loop = asyncio.get_running_loop()
        log.warning("database_away", requests=len(batch), problem=type(away.orig).__name__)
        if not self._stopping:
            await asyncio.sleep(RETRY_SECONDS)
        now = loop.time()
        for one in reversed(batch):
            if one.receipt.done():
                continue
            if now >= one.give_up_at or self._stopping:
                one.receipt.set_exception(StoreUnavailable())
            else:
                self._waiting.appendleft(one)

    async def _commit_each(self, batch: Sequence[_Waiting]) -> None:
        """One bad row must not fail the others of its commit."""
        for one in batch:
            try:
                receipts = await self._committed([one])
            except (OperationalError, InterfaceError) as away:
                await self._hold([one], away)
            except Exception as failed:
                log.exception("delivery_not_stored")
                if not one.receipt.done():
                    one.receipt.set_exception(StoreUnavailable(str(type(failed))))
            else:
                self._answer([one], receipts)

    def _answer(self, batch: Sequence[_Waiting], receipts: Sequence[Receipt]) -> None:
        now = asyncio.get_running_loop().time()
        for one, receipt in zip(batch, receipts, strict=True):
            if not one.receipt.done():  # the client may have gone away; its event is stored all the same
                one.receipt.set_result(receipt)
            STORE_SECONDS.observe(now - one.since)
        self._hints.extend({receipt.event_id: None for receipt in receipts})
        self._news.set()

    def _commit(self, deliveries: Sequence[NewDelivery]) -> list[Receipt]:
        with self.database.write() as session:
            return store(session, deliveries, window=self.window, now=self.clock())

    async def _publish_loop(self) -> None:
        """Announce committed events, off the request path. A lost announcement is made up for by the sweep."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._hints:
                if self._stopping and self._tasks and self._tasks[0].done():
                    return
                self._news.clear()
                waiting = asyncio.wait_for(self._news.wait(), timeout=0.2 if self._stopping else None)
                with contextlib.suppress(TimeoutError):
                    await waiting
                continue
            ids, self._hints = self._hints, []
            try:
                await loop.run_in_executor(self._sender, self._send, ids)
            except BrokerUnavailable as away:
                HINTS_LOST.inc()
                log.warning("hints_lost", events=len(ids), problem=str(away), then="the sweep sends them")
            except Exception:  # this loop has to outlive whatever a broker's client comes up with
                HINTS_LOST.inc()
                log.exception("hints_lost", events=len(ids), then="the sweep sends them")

    def _send(self, ids: Sequence[UUID]) -> None:
        self.broker.send(
            [
                hint(PROCESS_EVENTS, new_id().hex, [show(EVENT, one) for one in ids[start : start + BATCH]])
                for start in range(0, len(ids), BATCH)
            ]
        )
