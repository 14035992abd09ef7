"""One commit for all requests that wait: the disk's flush is shared, and 202 still means stored (promise 1).

A commit starts as soon as the one before has ended, without a timer: a 2 ms linger was measured slower. A second one
starts beside it once as many requests wait as the first has: a slow disk is not waited for by everybody, and on a fast
one no batch becomes smaller. While the database is away, requests are held for a while instead of refused, because
Nango drops everything for a minute after six quick failures (CONTRACT 1.6).
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from app.db.storing import NewDelivery
from app.deadlines import BATCH
from app.errors import DatabaseUnavailable
from app.services.intake import Receipt
from app.telemetry import STORE_SECONDS, WEBHOOKS, get_logger
from app.web.announcing import Announcer
from app.web.watching import watched
from app.web.writers import Writer

HOLD_SECONDS: Final = 12.0  # Nango waits 20 s for an answer
MAX_WAITING: Final = 4000  # requests
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
RETRY_SECONDS: Final = 0.25
SUSPICIOUS: Final = 4  # refusals of a batch by a database that is there: it may be because of one row
OVERDUE_SECONDS: Final = 1.0  # between two looks for requests that a stuck commit keeps too long
STOP_SECONDS: Final = 3.0  # for what is under way when the process is told to stop

log = get_logger(__name__)


class StoreUnavailable(Exception):
    """Storing stayed impossible for as long as the request may be held, or too many wait already."""


Tell = Callable[[Receipt | None], None]  # None: it could not be stored for as long as it may be held


@dataclass(slots=True)
class _Waiting:
    delivery: NewDelivery
    tell: Tell | None  # None once told
    since: float
    give_up_at: float


@dataclass(slots=True)
class _Lane:
    """One commit at a time."""

    writer: Writer
    taken: list[_Waiting] = field(default_factory=list)  # the batch that is under way
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class GroupCommit:
    """Takes verified deliveries and answers each once it is committed. Each writer commits one batch at a time."""

    writers: Sequence[Writer]
    announcer: Announcer
    hold_seconds: float = HOLD_SECONDS
    _waiting: deque[_Waiting] = field(default_factory=deque, init=False)
    _lanes: list[_Lane] = field(default_factory=list, init=False)
    _under_way: int = field(default=0, init=False)  # requests that are being committed
    _idle: int = field(default=0, init=False)  # lanes
    _bytes: int = field(default=0, init=False)
    _work: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _away_since: float | None = field(default=None, init=False)

    def start(self) -> None:
        self.announcer.start()
        for writer in self.writers:
            lane = _Lane(writer)
            lane.task = watched(asyncio.create_task(self._commit_loop(lane), name="commit"))
            self._lanes.append(lane)

    async def stop(self) -> None:
        """Commit what waits, announce what was committed, end. A frozen database is not waited for."""
        self._stopping = True
        self._work.set()
        tasks = [lane.task for lane in self._lanes if lane.task is not None]
        if tasks and (await asyncio.wait(tasks, timeout=STOP_SECONDS))[1]:
            for lane in self._lanes:
                lane.writer.cut()
            await asyncio.gather(*tasks)
        for lane in self._lanes:
            await lane.writer.close()
        await self.announcer.stop()

    async def store(self, delivery: NewDelivery, *, arrived: float | None = None) -> Receipt:
        """Return once the delivery is committed. Raises StoreUnavailable.

        arrived: on the loop's clock; whoever took long to read has that much less to be held.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Receipt | None] = loop.create_future()

        def tell(receipt: Receipt | None) -> None:
            if not told.done():  # the client may have gone away; its event is stored all the same
                told.set_result(receipt)

        now = loop.time()
        self.take(delivery, tell, now=now, arrived=now if arrived is None else arrived)
        receipt = await told
        if receipt is None:
            raise StoreUnavailable
        return receipt

    def take(self, delivery: NewDelivery, tell: Tell, *, now: float, arrived: float) -> None:
        """Line up; `tell` is called later, once, with what became of it. Raises StoreUnavailable when too many wait."""
        size = len(delivery.body)
        if self._stopping or len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            raise StoreUnavailable
        self._bytes += size
        self._waiting.append(_Waiting(delivery, tell, now, arrived + self.hold_seconds))
        if self._idle and self._may_begin():
            self._work.set()

    def _may_begin(self) -> bool:
        """Whether a commit is to begin: the first at once, a further one when as many wait as are under way."""
        return len(self._waiting) >= max(1, self._under_way)

    def _settle(self, one: _Waiting, receipt: Receipt | None) -> None:
        if one.tell is not None:
            tell, one.tell = one.tell, None
            self._bytes -= len(one.delivery.body)
            try:
                tell(receipt)
            except Exception:  # one connection's fault must not end the loop that answers all others
                log.exception("webhook_fault", then="it is stored, and its sender not told")

    async def _commit_loop(self, lane: _Lane) -> None:
        refusals = 0  # in a row, by a database that is there
        while True:
            if not self._may_begin():
                if self._stopping:
                    return  # whoever is at work takes the rest
                self._work.clear()
                self._idle += 1
                await self._work.wait()
                self._idle -= 1
                continue
            lane.taken = batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            self._under_way += len(batch)
            try:
                receipts = await self._committed(lane, batch)
            except DatabaseUnavailable as away:
                refusals = refusals + 1 if away.answered else 0
                if refusals < SUSPICIOUS:
                    await self._hold(batch, away)
                else:
                    await self._commit_each(lane, batch)
            except Exception:
                log.exception("batch_not_stored", requests=len(batch), then="each is stored alone")
                await self._commit_each(lane, batch)
            else:
                refusals = 0
                self._answer(batch, receipts)
            finally:
                self._under_way -= len(batch)
                lane.taken = []

    async def _committed(self, lane: _Lane, batch: Sequence[_Waiting]) -> list[Receipt]:
        """Commit. A frozen database may not answer for long; nobody is kept waiting for it."""
        commit = asyncio.ensure_future(lane.writer.store([one.delivery for one in batch]))
        while not (await asyncio.wait([commit], timeout=OVERDUE_SECONDS))[0]:
            self._give_up_overdue()
        return commit.result()

    def _give_up_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        for one in (*chain.from_iterable(lane.taken for lane in self._lanes), *self._waiting):
            if now >= one.give_up_at:
                self._settle(one, None)
        while self._waiting and self._waiting[0].tell is None:  # the oldest stand first
            self._waiting.popleft()

    async def _hold(self, batch: Sequence[_Waiting], away: DatabaseUnavailable) -> None:
        """The database is away: those who may wait longer go back to the head of the queue."""
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            log.warning("database_away", requests=len(batch), problem=away.cause, then="they are held")
        if not self._stopping:
            await asyncio.sleep(RETRY_SECONDS)
        self._give_up_overdue()
        for one in reversed(batch):
            if one.tell is None:
                continue
            if self._stopping:
                self._settle(one, None)
            else:
                self._waiting.appendleft(one)

    async def _commit_each(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        """One bad row must not fail the others of its commit."""
        held: list[_Waiting] = []
        for place, one in enumerate(batch):
            try:
                receipts = await self._committed(lane, [one])
            except DatabaseUnavailable as away:
                held.append(one)
                if len(held) == SUSPICIOUS or not away.answered:  # not the rows, after all
                    await self._hold([*held, *batch[place + 1 :]], away)
                    return
            except Exception:
                log.exception("delivery_not_stored")
                self._settle(one, None)
            else:
                self._answer([one], receipts)
        if held:
            await self._hold(held, DatabaseUnavailable(RuntimeError("some rows were refused"), answered=True))

    def _answer(self, batch: Sequence[_Waiting], receipts: Sequence[Receipt]) -> None:
        now = asyncio.get_running_loop().time()
        if self._away_since is not None:
            log.warning("database_back", seconds=round(now - self._away_since, 1))
            self._away_since = None
        answers: Counter[tuple[str, bool]] = Counter()
        for one, receipt in zip(batch, receipts, strict=True):
            self._settle(one, receipt)
            answers[one.delivery.environment, receipt.duplicate] += 1
        for (environment, duplicate), count in answers.items():
            WEBHOOKS.labels(environment, "duplicate" if duplicate else "stored").inc(count)
        STORE_SECONDS.observe(now - batch[0].since)
        self.announcer.announce(receipt.event_id for receipt in receipts)
