"""One commit for all requests that wait: the disk's flush is shared, and 202 still means stored (promise 1).

A commit starts as soon as the one before has ended, without a timer: a 2 ms linger was measured slower. A second one
starts beside it once as many requests wait as the first has: a slow disk is not waited for by everybody, and on a fast
one no batch becomes smaller. While the database is away, requests are held for a while instead of refused, because
Nango drops everything for a minute after six quick failures (Nango contract: Circuit breaker).
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeVar

from app.db.ingest import NewDelivery
from app.deadlines import BATCH
from app.errors import DatabaseUnavailable
from app.services.events.intake import Receipt, Writer
from app.telemetry import STORE_SECONDS, WEBHOOKS, get_logger
from app.web.announcing import Announcer
from app.web.answer_log import AnswerLog, AnswerReport, Written
from app.web.watching import watched

HOLD_SECONDS: Final = 12.0  # Nango waits 20 s for an answer
MAX_WAITING: Final = 4000  # requests
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
RETRY_SECONDS: Final = 0.25
SUSPICIOUS: Final = 4  # refusals of a batch by a database that is there: it may be because of one row
OVERDUE_SECONDS: Final = 1.0  # between two looks for requests that a stuck commit keeps too long
SLOW_SECONDS: Final = 2.0  # a commit that takes longer is not storing as it should
PROBE_SECONDS: Final = 1.0  # between two tries whether the database takes commits again, while nobody waits for one
STOP_SECONDS: Final = 3.0  # for what is under way when the process is told to stop

T = TypeVar("T")

log = get_logger(__name__)


class StoreUnavailable(Exception):
    """Storing stayed impossible for as long as the request may be held, or too many wait already."""


def _never() -> bool:
    return False


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
    since: float | None = None  # when the writer was given what it is at, on the monotonic clock
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class GroupCommit:
    """Takes verified deliveries and answers each once it is committed. Each writer commits one batch at a time."""

    writers: Sequence[Writer]
    announcer: Announcer
    hold_seconds: float = HOLD_SECONDS
    answers: AnswerLog = field(default_factory=AnswerLog)
    _waiting: deque[_Waiting] = field(default_factory=deque, init=False)
    _lanes: list[_Lane] = field(default_factory=list, init=False)
    _under_way: int = field(default=0, init=False)  # requests that are being committed
    _idle: int = field(default=0, init=False)  # lanes
    _bytes: int = field(default=0, init=False)
    _work: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _away_since: float | None = field(default=None, init=False)
    _probing: bool = field(default=False, init=False)

    @property
    def storing(self) -> bool:
        """Whether webhooks are stored as they should be, as far as is known: the last commit succeeded, and none has
        been under way for long.
        """
        if self._away_since is not None:
            return False
        slow = time.monotonic() - SLOW_SECONDS
        return all(lane.since is None or lane.since > slow for lane in self._lanes)

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

    async def store(self, delivery: NewDelivery, *, arrived: float | None = None, written: Written = _never) -> Receipt:
        """Return once the delivery is committed. Raises StoreUnavailable.

        arrived: on the loop's clock; whoever took long to read has that much less to be held.
        written: whether the answer that follows was written whole.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Receipt | None] = loop.create_future()

        def tell(receipt: Receipt | None) -> None:
            if receipt is not None:
                self.answers.watch(delivery.event_id, written)
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

    def answer_report(self) -> AnswerReport | None:
        """How far the answers are; None if nothing has happened since the last report."""
        taken = chain.from_iterable(lane.taken for lane in self._lanes)
        return self.answers.report(one.delivery.event_id for one in chain(taken, self._waiting))

    def _may_begin(self) -> bool:
        """Whether a commit is to begin: the first at once, a further one when as many wait as are under way."""
        return len(self._waiting) >= max(1, self._under_way)

    def _settle(self, one: _Waiting, receipt: Receipt | None) -> None:
        if one.tell is not None:
            tell, one.tell = one.tell, None
            self._bytes -= len(one.delivery.body)
            if receipt is None:
                self.answers.lost(one.delivery.event_id)  # a commit whose end is not known may store it all the same
            try:
                tell(receipt)
            except Exception:  # one connection's fault must not end the loop that answers all others
                self.answers.lost(one.delivery.event_id)
                log.exception("webhook_fault", then="it is stored, and its sender not told")

    async def _commit_loop(self, lane: _Lane) -> None:
        refusals = 0  # in a row, by a database that is there
        while True:
            if not self._may_begin():
                if self._stopping:
                    return  # whoever is at work takes the rest
                if self._away_since is None or self._waiting or self._under_way or self._probing:
                    await self._rest()
                else:
                    await self._probe(lane)
                continue
            lane.taken = batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            self._under_way += len(batch)
            try:
                receipts = await self._within(lane, lane.writer.store([one.delivery for one in batch]))
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

    async def _rest(self) -> None:
        """Until there is work."""
        self._work.clear()
        self._idle += 1
        try:
            await self._work.wait()
        finally:
            self._idle -= 1

    async def _probe(self, lane: _Lane) -> None:
        """Storing failed, and nobody waits any more whose webhook would show that it works again: try by ourselves."""
        self._probing = True
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._rest()
        except TimeoutError:
            await self._probe_now(lane)
        finally:
            self._probing = False

    async def _probe_now(self, lane: _Lane) -> None:
        try:
            await self._within(lane, lane.writer.probe())
        except DatabaseUnavailable:
            return
        except Exception:  # this loop has to outlive whatever a driver comes up with
            log.exception("probe_failed", then="it is tried again")
            return
        self._is_back()

    async def _within(self, lane: _Lane, work: Coroutine[Any, Any, T]) -> T:
        """What the writer answers. A frozen database may not answer for long; nobody is kept waiting for it."""
        lane.since = time.monotonic()
        try:
            task = asyncio.ensure_future(work)
            while not (await asyncio.wait([task], timeout=OVERDUE_SECONDS))[0]:
                self._give_up_overdue()
            return task.result()
        finally:
            lane.since = None

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
                receipts = await self._within(lane, lane.writer.store([one.delivery]))
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
        self._is_back()
        answers: Counter[tuple[str, bool]] = Counter()
        for one, receipt in zip(batch, receipts, strict=True):
            self._settle(one, receipt)
            answers[one.delivery.environment, receipt.duplicate] += 1
        self.answers.answered()
        for (environment, duplicate), count in answers.items():
            WEBHOOKS.labels(environment, "duplicate" if duplicate else "stored").inc(count)
        STORE_SECONDS.observe(now - batch[0].since)
        self.announcer.announce(receipt.event_id for receipt in receipts)

    def _is_back(self) -> None:
        if self._away_since is not None:
            seconds = asyncio.get_running_loop().time() - self._away_since
            log.warning("database_back", seconds=round(seconds, 1))
            self._away_since = None
