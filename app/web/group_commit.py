"""One commit for all waiting requests: the disk's flush is shared, and 202 still means stored (promise 1).

A commit starts as soon as the previous one has ended, without a timer: a 2 ms linger was measured slower. A second one
starts beside it once as many requests wait as the first has: requests need not all wait for a slow disk, and on a fast
one no batch becomes smaller. While the database is away, requests are held for a while instead of refused, because
Nango drops everything for a minute after six quick failures (Nango contract: Circuit breaker).
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from app.db.ingest import NewDelivery
from app.deadlines import BATCH
from app.domain import canary
from app.errors import DatabaseUnavailable
from app.ids import EVENT, show
from app.outage_causes import trouble_of_database
from app.services.events.intake import Receipt, Writer
from app.telemetry import (
    BATCH_SIZES,
    INGEST_SECONDS,
    STORE_SECONDS,
    WEBHOOKS,
    get_logger,
    is_debugging,
    trace_of,
)
from app.web.announcing import Announcer
from app.web.fatal_tasks import end_process_on_failure
from app.web.storing_proof import PROVEN_SECONDS, StoringProof
from app.web.written_responses import AnswerLog, AnswerReport, Written

if TYPE_CHECKING:
    from app.traces.webhooks import WebhookSpans

HOLD_SECONDS: Final = 12.0  # Nango waits 20 s for an answer
MAX_WAITING: Final = 4000  # requests
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
RETRY_SECONDS: Final = 0.25
MAX_REFUSALS: Final = 4  # of a batch in a row, by a database that answers: one bad row may be the cause
OVERDUE_SECONDS: Final = 1.0  # between two checks for requests that a stuck commit keeps too long
STUCK_SECONDS: Final = 30.0  # longer than any bound of a commit
SLOW_SECONDS: Final = 2.0  # a commit that takes longer counts as not storing
PROBE_SECONDS: Final = 1.0  # between two probes of a database that was away, while no request waits
STOP_SECONDS: Final = 3.0  # for commits in flight at the stop of the process

T = TypeVar("T")

log = get_logger(__name__)


class StoreUnavailable(Exception):
    """Storing was impossible for as long as the request may be held, or too many requests wait."""


def _never() -> bool:
    return False


OnCommit = Callable[[Receipt | None], None]  # None: it could not be stored within the time it may be held


@dataclass(slots=True)
class _Waiting:
    delivery: NewDelivery
    on_commit: OnCommit | None  # None once called
    since: float
    arrived: float


@dataclass(slots=True)
class _Committer:
    """A writer, which commits one batch at a time."""

    writer: Writer
    taken: list[_Waiting] = field(default_factory=list)  # the batch in flight
    since: float | None = None  # start of the writer's present work, on the monotonic clock
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class GroupCommit:
    """Takes verified deliveries and answers each once it is committed. Each writer commits one batch at a time."""

    writers: Sequence[Writer]
    announcer: Announcer
    hold_seconds: float = HOLD_SECONDS
    answers: AnswerLog = field(default_factory=AnswerLog)
    proof: StoringProof = field(default_factory=StoringProof)
    spans: "WebhookSpans | None" = None  # None: traces are off
    _waiting: deque[_Waiting] = field(default_factory=deque, init=False)
    _committers: list[_Committer] = field(default_factory=list, init=False)
    _in_flight: int = field(default=0, init=False)  # requests that are being committed
    _idle: int = field(default=0, init=False)  # number of idle committers
    _bytes: int = field(default=0, init=False)
    _work: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _away_since: float | None = field(default=None, init=False)
    _probing: bool = field(default=False, init=False)

    async def prove(self, *, within: float, seconds: float = PROVEN_SECONDS) -> bool:
        """Whether storing works: a write was committed in the last `seconds`, or one is committed `within` seconds.

        Where no webhook waits, a write that changes nothing is made, one at a time for all who ask. While the database
        is away, its probes are those that are made anyway. `proof.trouble` is why not; None: no answer came in time.
        """
        if not self.proof.holds(seconds) and self._away_since is None:
            await self.proof.ask(self._work.set, within=within)
        return self.proof.holds(seconds)

    @property
    def storing(self) -> bool:
        """Whether webhooks are being stored, as far as is known: the last commit succeeded, and none is slow."""
        if self._away_since is not None:
            return False
        slow = time.monotonic() - SLOW_SECONDS
        return all(committer.since is None or committer.since > slow for committer in self._committers)

    @property
    def stuck(self) -> bool:
        """Whether a writer has not come back for longer than the database may keep it."""
        since = time.monotonic() - STUCK_SECONDS
        return any(committer.since is not None and committer.since < since for committer in self._committers)

    def start(self) -> None:
        self.announcer.start()
        for writer in self.writers:
            committer = _Committer(writer)
            committer.task = end_process_on_failure(asyncio.create_task(self._commit_loop(committer), name="commit"))
            self._committers.append(committer)

    async def stop(self) -> None:
        """Commit the waiting requests, announce them, and stop, without waiting for a frozen database."""
        self._stopping = True
        self._work.set()
        tasks = [committer.task for committer in self._committers if committer.task is not None]
        if tasks and (await asyncio.wait(tasks, timeout=STOP_SECONDS))[1]:
            for committer in self._committers:
                committer.writer.cut()
            await asyncio.gather(*tasks)
        for committer in self._committers:
            await committer.writer.close()
        await self.announcer.stop()

    async def store(self, delivery: NewDelivery, *, arrived: float | None = None, written: Written = _never) -> Receipt:
        """Return once the delivery is committed. Raises StoreUnavailable.

        arrived: on the loop's clock; the time that reading took is deducted from the hold time. written: whether the
        answer that follows was written completely.
        """
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[Receipt | None] = loop.create_future()

        def on_commit(receipt: Receipt | None) -> None:
            if receipt is not None:
                self.answers.watch(delivery.event_id, written)
            if not committed.done():  # the client may have disconnected; its event is stored all the same
                committed.set_result(receipt)

        now = loop.time()
        self.take(delivery, on_commit, now=now, arrived=now if arrived is None else arrived)
        receipt = await committed
        if receipt is None:
            raise StoreUnavailable
        return receipt

    def take(self, delivery: NewDelivery, on_commit: OnCommit, *, now: float, arrived: float) -> None:
        """Queue a delivery; `on_commit` is called once, with its receipt. Raises StoreUnavailable when too
        many wait.
        """
        size = len(delivery.body)
        if self._stopping or len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            raise StoreUnavailable
        if self.spans is not None and delivery.environment != canary.ENVIRONMENT:
            delivery = self.spans.begin(delivery, seconds=now - arrived)
        self._bytes += size
        self._waiting.append(_Waiting(delivery, on_commit, now, arrived))
        if self._idle and self._may_begin():
            self._work.set()

    def answer_report(self) -> AnswerReport | None:
        """A report on the answers; None if nothing has happened since the last report."""
        taken = chain.from_iterable(committer.taken for committer in self._committers)
        return self.answers.report(request.delivery.event_id for request in chain(taken, self._waiting))

    def _may_begin(self) -> bool:
        """Whether a commit is to begin: the first at once, a further one when as many requests wait as are in
        flight.
        """
        return len(self._waiting) >= max(1, self._in_flight)

    def _complete(self, request: _Waiting, receipt: Receipt | None) -> None:
        if request.on_commit is not None:
            on_commit, request.on_commit = request.on_commit, None
            self._bytes -= len(request.delivery.body)
            if receipt is None:
                # A commit with an unknown result may store it all the same.
                self.answers.lost(request.delivery.event_id)
                if self.spans is not None:
                    self.spans.lost(request.delivery.event_id)
            try:
                on_commit(receipt)
            except Exception:  # one connection's error must not end the loop that answers all others
                self.answers.lost(request.delivery.event_id)
                log.exception("webhook_fault", then="it is stored, and its sender not told", **_ids(request.delivery))

    async def _commit_loop(self, committer: _Committer) -> None:
        refusals = 0  # in a row, by a database that answers
        while True:
            if not self._may_begin():
                if self._stopping:
                    return  # another writer that is at work takes the rest
                if self.proof.is_asked_for and not self._in_flight and not self._probing:
                    await self._probe(committer, after=0.0)
                elif self._away_since is None or self._waiting or self._in_flight or self._probing:
                    await self._wait_for_work()
                else:
                    await self._probe(committer)
                continue
            committer.taken = batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            self._in_flight += len(batch)
            try:
                receipts = await self._within(
                    committer, committer.writer.store([request.delivery for request in batch])
                )
            except DatabaseUnavailable as away:
                refusals = refusals + 1 if away.answered else 0
                if refusals < MAX_REFUSALS:
                    await self._hold(batch, away)
                else:
                    await self._commit_each(committer, batch)
            except Exception:
                log.exception("batch_not_stored", requests=len(batch), then="each is stored alone")
                await self._commit_each(committer, batch)
            else:
                refusals = 0
                self._answer(batch, receipts)
            finally:
                self._in_flight -= len(batch)
                committer.taken = []

    async def _wait_for_work(self) -> None:
        """Wait until there is work."""
        self._work.clear()
        self._idle += 1
        try:
            await self._work.wait()
        finally:
            self._idle -= 1

    async def _probe(self, committer: _Committer, *, after: float = PROBE_SECONDS) -> None:
        """Probe the database, unless there is work within `after` seconds whose commit shows as much."""
        self._probing = True
        try:
            async with asyncio.timeout(after):
                return await self._wait_for_work()
        except TimeoutError:
            await self._probe_now(committer)
        finally:
            self._probing = False

    async def _probe_now(self, committer: _Committer) -> None:
        try:
            await self._within(committer, committer.writer.probe())
        except DatabaseUnavailable as away:
            self._is_away(away, requests=0)
        except Exception as failed:  # no error of a driver may end this loop
            if self.proof.trouble is None:
                log.exception("probe_failed", then="it is tried again")
            self.proof.learn(trouble_of_database(failed))
        else:
            self._is_back()

    async def _within(self, committer: _Committer, work: Coroutine[Any, Any, T]) -> T:
        """The writer's result. While a frozen database does not answer, overdue requests are given up."""
        committer.since = time.monotonic()
        try:
            task = asyncio.ensure_future(work)
            while not (await asyncio.wait([task], timeout=OVERDUE_SECONDS))[0]:
                self._give_up_overdue()
            return task.result()
        finally:
            committer.since = None

    def _give_up_overdue(self) -> None:
        too_old = asyncio.get_running_loop().time() - self.hold_seconds
        for request in (*chain.from_iterable(committer.taken for committer in self._committers), *self._waiting):
            if request.arrived <= too_old:
                self._complete(request, None)
        while self._waiting and self._waiting[0].on_commit is None:  # the oldest are first
            self._waiting.popleft()

    async def _hold(self, batch: Sequence[_Waiting], away: DatabaseUnavailable) -> None:
        """The database is away: return the requests that may wait longer to the head of the queue."""
        self._is_away(away, requests=len(batch))
        if not self._stopping:
            await asyncio.sleep(RETRY_SECONDS)
        self._give_up_overdue()
        for request in reversed(batch):
            if request.on_commit is None:
                continue
            if self._stopping:
                self._complete(request, None)
            else:
                self._waiting.appendleft(request)

    async def _commit_each(self, committer: _Committer, batch: Sequence[_Waiting]) -> None:
        """Commit requests one by one, since a bad row must not fail the others of its batch."""
        held: list[_Waiting] = []
        for place, request in enumerate(batch):
            try:
                receipts = await self._within(committer, committer.writer.store([request.delivery]))
            except DatabaseUnavailable as away:
                held.append(request)
                if len(held) == MAX_REFUSALS or not away.answered:  # the rows are not the cause
                    await self._hold([*held, *batch[place + 1 :]], away)
                    return
            except Exception:
                log.exception("delivery_not_stored", **_ids(request.delivery))
                self._complete(request, None)
            else:
                self._answer([request], receipts)
        if held:
            await self._hold(held, DatabaseUnavailable(RuntimeError("some rows were refused"), answered=True))

    def _answer(self, batch: Sequence[_Waiting], receipts: Sequence[Receipt]) -> None:
        now = asyncio.get_running_loop().time()
        self._is_back()
        answers: Counter[tuple[str, bool]] = Counter()
        for request, receipt in zip(batch, receipts, strict=True):
            self._complete(request, receipt)
            answers[request.delivery.environment, receipt.duplicate] += 1
        if self.spans is not None:
            self.spans.stored([request.delivery for request in batch], receipts)
        if is_debugging():
            for request, receipt in zip(batch, receipts, strict=True):
                facts = {**_ids(request.delivery), "event_id": show(EVENT, receipt.event_id)}
                log.debug("event_stored", duplicate=receipt.duplicate, **facts)
        answers.pop((canary.ENVIRONMENT, False), None)
        for (environment, duplicate), count in answers.items():
            WEBHOOKS.labels(environment, "duplicate" if duplicate else "stored").inc(count)
        if answers:
            self.answers.answered()
            STORE_SECONDS.observe(now - batch[0].since)
            arrivals = [one.arrived for one in batch if one.delivery.environment != canary.ENVIRONMENT]
            INGEST_SECONDS.observe_many([now - arrived for arrived in arrivals])
            BATCH_SIZES.labels("stored").observe(len(batch))
        self.announcer.announce(receipt.event_id for receipt in receipts)

    def _is_away(self, away: DatabaseUnavailable, *, requests: int) -> None:
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            log.warning("database_away", requests=requests, problem=away.cause, then="they are held")
        self.proof.learn(away.trouble)

    def _is_back(self) -> None:
        self.proof.learn(None)
        if self._away_since is not None:
            seconds = asyncio.get_running_loop().time() - self._away_since
            log.warning("database_back", seconds=round(seconds, 1))
            self._away_since = None


def _ids(delivery: NewDelivery) -> dict[str, str]:
    """The ids of a delivery, for a log line."""
    return {"event_id": show(EVENT, delivery.event_id), **trace_of(delivery.traceparent)}
