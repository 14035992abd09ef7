"""Compare every environment's list at Nango with our records, and bring what was missed into the pipeline (promise 6).

A run is a row: which page comes next, and who holds the lease. A page is one call and a few short transactions, so
that whoever is killed loses a page at most, and nobody waits for a lock. What differs is noted; a minute later it is
looked at again, and what is still there becomes an event. No transaction is open while Nango is asked.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final
from uuid import UUID

from app.db import differences, reconciliations
from app.db.differences import ConnectionKey, OpenDifference
from app.db.engine import Database
from app.db.reconciliations import Run
from app.deadlines import MAX_CLAIMS, RECONCILE_DEADLINE, RECONCILE_LEASE
from app.domain.budget import Priority
from app.domain.event import EventType
from app.domain.reconciling import APART, RunOutcome, Stage, Trigger, too_many
from app.errors import InvalidInput, NangoError, NangoRateLimited, NangoUnavailable
from app.ids import RECONCILIATION, show
from app.nango.client import MAX_LIMIT, NangoClient
from app.nango.paging import Window, next_window
from app.nango.types import ConnectionPage, ListedConnection
from app.services.nango_clients import NangoClients
from app.services.reconciliation.diff import first_look, name_unreadable, never_shown, second_look, shown_by
from app.services.reconciliation.run_records import LeaseLostError, RunRecords, add_up, sampled
from app.services.reconciliation.run_requests import open_run
from app.telemetry import RECONCILIATIONS, get_logger

WORK_SECONDS: Final = 30.0  # of one call of `work`; then another tick goes on, so that a shutdown need not wait long
LOOK_UPS: Final = 20  # differences that are looked up by id before the result is recorded
MOST_WAITING: Final = 2000  # events that wait to be processed before more are made: about a second's work
SHORTEST_CALL: Final = 5.0  # seconds: with less than that left, the rest is for the next unit
GIVE_UP_AFTER: Final = 12  # calls in a row that Nango did not answer: most of an hour
LONGEST_WAIT: Final = 300.0  # seconds between two of them
SETTLE_WITHIN: Final = timedelta(minutes=15)  # a report does not wait longer for its events

log = get_logger(__name__)


@dataclass(slots=True)
class Reconciler:
    """What a process needs to reconcile; made once per process, where one run is worked on at a time.

    every: from the start of one run to that of the next; zero for none by themselves.
    """

    database: Database
    clients: NangoClients
    environments: Collection[str]
    clock: Callable[[], datetime]
    every: timedelta = timedelta(0)
    page_size: int = MAX_LIMIT
    _records: RunRecords = field(init=False)
    _busy: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._records = RunRecords(self.database, self.clock)

    def plan(self) -> None:
        """Open a run for each environment whose time has come."""
        if not self.every:
            return
        now = self.clock()
        for environment in self.environments:
            with self.database.read() as session:
                last = reconciliations.last(session, environment)
                running = reconciliations.under_way(session, environment)
            if running is None and (last is None or last.created_at + self.every <= now):
                with self.database.write() as session:
                    open_run(session, environment, trigger=Trigger.SCHEDULE, now=now)

    def work(self, *, seconds: float = WORK_SECONDS, run_id: UUID | None = None) -> list[UUID]:
        """Take due runs on, or that one, for so long. Returns the events that came of it, to be announced."""
        events: list[UUID] = []
        if not self._busy.acquire(blocking=False):
            return events
        try:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at and (run := self._claim(run_id)) is not None:
                try:
                    self._carry_on(run, events, ends_at)
                except LeaseLostError:
                    log.info("reconciliation_taken_over", reconciliation=show(RECONCILIATION, run.id))
        finally:
            self._busy.release()
        return events

    def _claim(self, run_id: UUID | None) -> Run | None:
        with self.database.read() as session:  # most ticks find nothing, and need no write lock for that
            if not reconciliations.anything_due(session, now=self.clock()):
                return None
        with self.database.write() as session:
            return reconciliations.claim(session, now=self.clock(), lease=RECONCILE_LEASE, run_id=run_id)

    def _carry_on(self, run: Run, events: list[UUID], ends_at: float) -> None:
        """Unit after unit, until the run waits for something or the time is over."""
        while run.holder is not None:
            run = self._one_unit(run, events)
            if run.holder is not None and time.monotonic() >= ends_at:
                self._records.record(run, self._records.paused(run, 0))
                return

    def _one_unit(self, run: Run, events: list[UUID]) -> Run:
        if run.attempts > MAX_CLAIMS:
            return self._fail(run, f"claimed {MAX_CLAIMS} times without a result")
        if run.stage != Stage.LISTING:
            run = self._records.account(run)
        if run.stage == Stage.SETTLING:
            return self._settle(run)
        client = self.clients.of(run.environment, Priority.RECONCILE)
        if client is None:
            return self._fail(run, "its environment has no API key, or is not configured any more")
        try:
            return self._list(run, client) if run.stage == Stage.LISTING else self._check(run, client, events)
        except NangoRateLimited as limited:
            return self._records.record(run, self._records.paused(run, max(limited.retry_after, 1.0)))
        except NangoUnavailable as away:
            return self._try_later(run, str(away))
        except (NangoError, InvalidInput) as refused:
            return self._fail(run, str(refused))

    # The first look: page by page

    def _list(self, run: Run, client: NangoClient) -> Run:
        window, page = self._page(run, client)
        if _has_slipped(run, window, page):
            return self._step_back(run, window)
        is_last = page.size < window.limit
        found, samples = self._compare(run, page, is_last=is_last)
        listed = self._covered(run, window, page, seen=run.seen + len(_unread(run, page)))
        problem = listed.problem or name_unreadable(run.environment, page)
        listed = replace(listed, found=add_up(run.found, found), samples=samples, problem=problem)
        return self._listed(run, listed) if is_last else self._records.record(run, listed)

    def _page(self, run: Run, client: NangoClient) -> tuple[Window, ConnectionPage]:
        """The next page. It begins some rows before the end of the last one, so that deletions hide nobody."""
        window = next_window(run.covered, limit=self.page_size) if run.covered else Window(0, self.page_size)
        timeout = RECONCILE_DEADLINE.total_seconds()
        return window, client.list_connections(limit=window.limit, page=window.page, timeout=timeout)

    def _step_back(self, run: Run, window: Window) -> Run:
        back = max(window.start - self.page_size, 0)
        return self._records.record(run, self._records.going_on(run, covered=back, calls=run.calls + 1))

    def _covered(self, run: Run, window: Window, page: ConnectionPage, **changes: Any) -> Run:
        ids = [one.id for one in page.connections]
        lowest = min([*ids, *([] if run.below is None else [run.below])], default=None)
        counts = {"pages": run.pages + 1, "calls": run.calls + 1}
        return self._records.going_on(run, covered=window.end, below=lowest, **counts, **changes)

    def _compare(self, run: Run, page: ConnectionPage, *, is_last: bool) -> tuple[Counter[str], dict[str, list[Any]]]:
        """Note what differs; how much of each type, and the report's samples with it."""
        now = self.clock()
        if not is_last and not page.connections:
            return Counter(), sampled(run.samples, ())  # no row of it can be read: it stands for no span of ids
        least = None if is_last else min(one.id for one in page.connections)
        if run.found.get(EventType.CONNECTION_DELETED) and page.connections and not run.dry_run:
            self._records.drop_absences(run, shown_by(page))
        looks = first_look(self.database, run.environment, page, least=least, below=run.below, now=now)
        if is_last and not run.dry_run:  # a dry run keeps nothing that would tell these from those that were shown
            rest = never_shown(self.database, run.environment, observed_at=page.observed_at, now=now)
            looks = chain(looks, rest)
        counts: Counter[str] = Counter()
        samples = sampled(run.samples, ())
        for found in looks:
            self._records.note(run, found)
            counts.update(str(one.type) for one in found)
            samples = sampled(samples, found)
        return counts, samples

    def _listed(self, before: Run, run: Run) -> Run:
        """The list is at its end: the second look is due in a minute."""
        missing = run.found.get(EventType.CONNECTION_DELETED, 0)
        shown = run.seen - run.found.get(EventType.CONNECTION_CREATED, 0)
        if not run.accept_deletions and too_many(missing=missing, shown=shown):
            log.error("absences_not_believed", environment=run.environment, missing=missing, shown=shown)
            run = replace(run, problem=_not_believed(missing, shown))
            self._records.forget(before, absences=True, others=False)
        if run.dry_run:
            return self._finish(before, run, RunOutcome.COMPLETED)
        with self.database.read() as session:
            opened = differences.count_open(session, run.environment)
        if not opened:
            return self._records.record(before, self._records.entered(run, Stage.SETTLING))
        others = opened.total() - opened[EventType.CONNECTION_DELETED]
        entered = self._records.entered(run, Stage.CHECKING, covered=0, below=None, relist=others > run.pages)
        return self._records.record(before, self._records.paused(entered, APART.total_seconds()))

    # The second look: by another listing where that takes fewer calls, else by id

    def _check(self, run: Run, client: NangoClient, events: list[UUID]) -> Run:
        with self.database.read() as session:
            waiting = differences.count_waiting(session, run.environment)
            opened = differences.oldest(session, run.environment, limit=LOOK_UPS)
        if waiting >= MOST_WAITING:
            return self._records.record(run, self._records.paused(run, 1.0))
        if not opened:
            return self._records.record(run, self._records.entered(run, Stage.SETTLING))
        return self._list_again(run, client, events) if run.relist else self._look_up(run, client, opened, events)

    def _list_again(self, run: Run, client: NangoClient, events: list[UUID]) -> Run:
        window, page = self._page(run, client)
        if _has_slipped(run, window, page):
            return self._step_back(run, window)
        shown = shown_by(page)
        with self.database.read() as session:
            opened = differences.among(session, run.environment, shown.keys())
        run = self._tell(run, opened, shown, dict.fromkeys(shown, page.observed_at), events)
        is_last = page.size < window.limit
        if is_last:  # who was not shown again was deleted meanwhile
            self._records.forget(run, absences=False, others=True)
        return self._records.record(run, self._covered(run, window, page, relist=not is_last))

    def _look_up(self, run: Run, client: NangoClient, opened: Sequence[OpenDifference], events: list[UUID]) -> Run:
        shown: dict[ConnectionKey, ListedConnection] = {}
        asked: dict[str, datetime] = {}
        hidden: set[ConnectionKey] = set()
        problem: NangoError | InvalidInput | None = None
        ends_at = time.monotonic() + RECONCILE_DEADLINE.total_seconds()
        for connection_id in dict.fromkeys(one.connection_id for one in opened):
            remaining = ends_at - time.monotonic()
            if asked and remaining < SHORTEST_CALL:
                break
            try:
                page = client.list_connections(connection_id=connection_id, timeout=remaining)
            except (NangoError, InvalidInput) as failed:
                problem = failed
                break
            shown |= shown_by(page)
            here = [one.key for one in opened if one.connection_id == connection_id and one.key not in shown]
            hidden |= {key for key in here if page.may_hide(*key) is not None}
            asked[connection_id] = page.observed_at
        looked_at = [one for one in opened if one.connection_id in asked]
        observed_at = {one.key: asked[one.connection_id] for one in looked_at}
        run = self._tell(run, looked_at, shown, observed_at, events, hidden=hidden)
        run = self._records.record(run, self._records.going_on(run, calls=run.calls + len(asked)))
        if problem is not None and not asked:
            raise problem  # after an answer, what was learnt is kept, and the next unit meets the problem
        return run

    def _tell(
        self,
        run: Run,
        opened: Sequence[OpenDifference],
        shown: Mapping[ConnectionKey, ListedConnection],
        observed_at: Mapping[ConnectionKey, datetime],
        events: list[UUID],
        *,
        hidden: Collection[ConnectionKey] = (),
    ) -> Run:
        with self.database.read() as session:
            ours = differences.known(session, run.environment, {one.key for one in opened})
        judged = second_look(opened, shown, ours, observed_at=observed_at, hidden=hidden, now=self.clock())
        run, made = self._records.tell(run, judged)
        events += made
        return run

    # The end: what became of the events

    def _settle(self, run: Run) -> Run:
        with self.database.read() as session:
            waiting = differences.count_waiting(session, run.environment)
        if not waiting:
            return self._finish(run, run, RunOutcome.COMPLETED)
        if self.clock() - run.stage_since < SETTLE_WITHIN:
            return self._records.record(run, self._records.paused(run, 1.0))
        late = f"{waiting} events still wait to be processed: does `waylink worker events` run?"
        return self._finish(run, replace(run, problem=run.problem or late), RunOutcome.COMPLETED)

    def _try_later(self, run: Run, problem: str) -> Run:
        failures = run.failures + 1
        if failures > GIVE_UP_AFTER:
            return self._fail(run, problem)
        wait = min(5.0 * 2 ** (failures - 1), LONGEST_WAIT)
        log.warning("reconciliation_waits", environment=run.environment, problem=problem, seconds=wait)
        return self._records.record(run, replace(self._records.paused(run, wait), failures=failures, problem=problem))

    def _fail(self, run: Run, problem: str) -> Run:
        log.error("reconciliation_failed", environment=run.environment, problem=problem)
        return self._finish(run, replace(run, problem=problem), RunOutcome.FAILED)

    def _finish(self, before: Run, run: Run, outcome: RunOutcome) -> Run:
        self._records.forget(before, absences=True, others=True)
        now = self.clock()
        over = replace(run, stage=Stage.DONE, stage_since=now, finished_at=now, outcome=outcome, holder=None)
        self._records.record(before, over)
        RECONCILIATIONS.labels(run.environment, outcome).inc()
        log.info(
            "reconciled",
            reconciliation=show(RECONCILIATION, run.id),
            environment=run.environment,
            outcome=outcome,
            seen=run.seen,
            counted=dict(run.counted),
            healed=run.healed,
        )
        return over


def _has_slipped(run: Run, window: Window, page: ConnectionPage) -> bool:
    """Rows that were read are gone: those that came after them may be in front of this page by now."""
    if page.unreadable and not page.connections:
        return False  # nothing tells, and reading the page before again would not end
    overlaps = page.connections and run.below is not None and page.connections[0].id >= run.below
    return 0 < window.start < run.covered and not overlaps


def _unread(run: Run, page: ConnectionPage) -> list[ListedConnection]:
    """Without those of earlier pages, and those that are newer than this run."""
    return [one for one in page.connections if run.below is None or one.id < run.below]


def _not_believed(missing: int, shown: int) -> str:
    return (
        f"{missing} of our connections are not in Nango's list, and {shown} are: not believed. Is the API key that "
        "of this environment? If they are gone indeed, run `waylink reconcile --accept-deletions`"
    )
