"""The reconciler: compares each environment's list at Nango with the stored connections (promise 6).

A run is a row with a cursor and a lease. A page is one call and a few short transactions, so that a killed process
loses one page at most, and no lock is held for long. Differences are recorded and checked again a minute later; those
that persist become events. No transaction is open during calls to Nango.
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
from app.db.differences import ConnectionName, OpenDifference
from app.db.engine import Database
from app.db.reconciliations import Run
from app.deadlines import MAX_CLAIMS, RECONCILE_DEADLINE, RECONCILE_LEASE
from app.domain.budget import Priority
from app.domain.event import EventType
from app.domain.reconciling import RECHECK_AFTER, RunOutcome, Stage, Trigger, too_many
from app.errors import InvalidInput, NangoError, NangoRateLimited, NangoUnavailable
from app.ids import RECONCILIATION, show
from app.nango.client import MAX_LIMIT, NangoClient
from app.nango.paging import Window, next_window
from app.nango.types import ConnectionPage, ListedConnection
from app.services.nango_clients import NangoClients
from app.services.reconciliation.diff import first_check, never_listed, report_unreadable, second_check, shown_by
from app.services.reconciliation.run_records import LeaseLostError, RunRecords, added_counts, sampled
from app.services.reconciliation.run_requests import open_run
from app.telemetry import RECONCILIATIONS, get_logger
from app.wording import counted

WORK_SECONDS: Final = 30.0  # per call of `work`; the next tick continues, so that a shutdown need not wait long
LOOKUPS_PER_UNIT: Final = 20  # differences per unit of the second check
MOST_WAITING: Final = 2000  # unprocessed events of a run, above which it pauses: about a second's work
SHORTEST_CALL: Final = 5.0  # seconds: with less left, the next unit continues
GIVE_UP_AFTER: Final = 12  # unanswered calls in a row: most of an hour
LONGEST_WAIT: Final = 300.0  # seconds between two of these
PROCESS_WITHIN: Final = timedelta(minutes=15)  # of waiting for a run's events before its report is finished

log = get_logger(__name__)


@dataclass(slots=True)
class Reconciler:
    """Plans and carries out runs, one at a time; one per process.

    every: between the starts of two scheduled runs; zero: no scheduled runs. page_size: connections per call.
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
        """Open a run for each environment whose scheduled time has come."""
        if not self.every:
            return
        now = self.clock()
        for environment in self.environments:
            with self.database.read() as session:
                last = reconciliations.last(session, environment)
                running = reconciliations.running(session, environment)
            if running is None and (last is None or last.created_at + self.every <= now):
                with self.database.write() as session:
                    open_run(session, environment, trigger=Trigger.SCHEDULE, now=now)

    def work(self, *, seconds: float = WORK_SECONDS, run_id: UUID | None = None) -> list[UUID]:
        """Work on due runs, or on one, for `seconds`. Returns ids of the stored events, for hints to workers."""
        events: list[UUID] = []
        if not self._busy.acquire(blocking=False):
            return events
        try:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at and (run := self._claim(run_id)) is not None:
                try:
                    self._continue(run, events, ends_at)
                except LeaseLostError:
                    log.info("reconciliation_taken_over", reconciliation=show(RECONCILIATION, run.id))
        finally:
            self._busy.release()
        return events

    def _claim(self, run_id: UUID | None) -> Run | None:
        with self.database.read() as session:  # most ticks find nothing due, which needs no write lock
            if not reconciliations.anything_due(session, now=self.clock()):
                return None
        with self.database.write() as session:
            return reconciliations.claim(session, now=self.clock(), lease=RECONCILE_LEASE, run_id=run_id)

    def _continue(self, run: Run, events: list[UUID], ends_at: float) -> None:
        """Carry out units of a run until it pauses or the time is over."""
        while run.holder is not None:
            run = self._carry_out_unit(run, events)
            if run.holder is not None and time.monotonic() >= ends_at:
                self._records.record(run, self._records.paused(run, 0))
                return

    def _carry_out_unit(self, run: Run, events: list[UUID]) -> Run:
        if run.attempts > MAX_CLAIMS:
            return self._fail(run, f"claimed {MAX_CLAIMS} times without a result")
        if run.stage != Stage.LISTING:
            run = self._records.count_finished(run)
        if run.stage == Stage.SETTLING:
            return self._await_processing(run)
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

    # First check: page by page

    def _list(self, run: Run, client: NangoClient) -> Run:
        window, page = self._page(run, client)
        if _has_slipped(run, window, page):
            return self._step_back(run, window)
        is_last = page.size < window.limit
        counts, samples = self._compare(run, page, is_last=is_last)
        listed = self._covered(run, window, page, seen=run.seen + len(_unread(run, page)))
        problem = listed.problem or report_unreadable(run.environment, page)
        listed = replace(listed, found=added_counts(run.found, counts), samples=samples, problem=problem)
        return self._listed(run, listed) if is_last else self._records.record(run, listed)

    def _page(self, run: Run, client: NangoClient) -> tuple[Window, ConnectionPage]:
        """Read the next page. It overlaps the last one by some rows, so that deletions cause no gap."""
        window = next_window(run.covered, limit=self.page_size) if run.covered else Window(0, self.page_size)
        timeout = RECONCILE_DEADLINE.total_seconds()
        return window, client.list_connections(limit=window.limit, page=window.page, timeout=timeout)

    def _step_back(self, run: Run, window: Window) -> Run:
        back = max(window.start - self.page_size, 0)
        return self._records.record(run, self._records.progressed(run, covered=back, calls=run.calls + 1))

    def _covered(self, run: Run, window: Window, page: ConnectionPage, **changes: Any) -> Run:
        ids = [listed.id for listed in page.connections]
        lowest = min([*ids, *([] if run.below is None else [run.below])], default=None)
        counts = {"pages": run.pages + 1, "calls": run.calls + 1}
        return self._records.progressed(run, covered=window.end, below=lowest, **counts, **changes)

    def _compare(self, run: Run, page: ConnectionPage, *, is_last: bool) -> tuple[Counter[str], dict[str, list[Any]]]:
        """Record a page's differences. Returns counts by type, and the report's samples."""
        now = self.clock()
        if not is_last and not page.connections:
            return Counter(), sampled(run.samples, ())  # no row can be read, so that the page stands for no span of ids
        least = None if is_last else min(listed.id for listed in page.connections)
        if run.found.get(EventType.CONNECTION_DELETED) and page.connections and not run.dry_run:
            self._records.drop_absences(run, shown_by(page))
        checks = first_check(self.database, run.environment, page, least=least, below=run.below, now=now)
        if is_last and not run.dry_run:  # a dry run stores no differences by which to exclude listed connections
            rest = never_listed(self.database, run.environment, observed_at=page.observed_at, now=now)
            checks = chain(checks, rest)
        counts: Counter[str] = Counter()
        samples = sampled(run.samples, ())
        for new in checks:
            self._records.record_new(run, new)
            counts.update(str(difference.type) for difference in new)
            samples = sampled(samples, new)
        return counts, samples

    def _listed(self, before: Run, run: Run) -> Run:
        """End the listing: the second check is due in a minute."""
        missing = run.found.get(EventType.CONNECTION_DELETED, 0)
        shown = run.seen - run.found.get(EventType.CONNECTION_CREATED, 0)
        if not run.accept_deletions and too_many(missing=missing, shown=shown):
            log.error("absences_not_believed", environment=run.environment, missing=missing, shown=shown)
            run = replace(run, problem=_not_believed(missing, shown))
            self._records.drop_open(before, absences=True, others=False)
        if run.dry_run:
            return self._finish(before, run, RunOutcome.COMPLETED)
        with self.database.read() as session:
            opened = differences.count_open(session, run.environment)
        if not opened:
            return self._records.record(before, self._records.entered(run, Stage.SETTLING))
        others = opened.total() - opened[EventType.CONNECTION_DELETED]
        entered = self._records.entered(run, Stage.CHECKING, covered=0, below=None, relist=others > run.pages)
        return self._records.record(before, self._records.paused(entered, RECHECK_AFTER.total_seconds()))

    # Second check: by another listing where that takes fewer calls, else by id

    def _check(self, run: Run, client: NangoClient, events: list[UUID]) -> Run:
        with self.database.read() as session:
            waiting = differences.count_waiting(session, run.environment)
            opened = differences.oldest(session, run.environment, limit=LOOKUPS_PER_UNIT)
        if waiting >= MOST_WAITING:
            return self._records.record(run, self._records.paused(run, 1.0))
        if not opened:
            return self._records.record(run, self._records.entered(run, Stage.SETTLING))
        return self._list_again(run, client, events) if run.relist else self._look_up_by_id(run, client, opened, events)

    def _list_again(self, run: Run, client: NangoClient, events: list[UUID]) -> Run:
        window, page = self._page(run, client)
        if _has_slipped(run, window, page):
            return self._step_back(run, window)
        shown = shown_by(page)
        with self.database.read() as session:
            opened = differences.among(session, run.environment, shown.keys())
        run = self._recheck(run, opened, shown, dict.fromkeys(shown, page.observed_at), events)
        is_last = page.size < window.limit
        if is_last:  # a connection that is not listed again was deleted meanwhile
            self._records.drop_open(run, absences=False, others=True)
        return self._records.record(run, self._covered(run, window, page, relist=not is_last))

    def _look_up_by_id(
        self, run: Run, client: NangoClient, opened: Sequence[OpenDifference], events: list[UUID]
    ) -> Run:
        shown: dict[ConnectionName, ListedConnection] = {}
        answered_at: dict[str, datetime] = {}
        hidden: set[ConnectionName] = set()
        problem: NangoError | InvalidInput | None = None
        ends_at = time.monotonic() + RECONCILE_DEADLINE.total_seconds()
        for connection_id in dict.fromkeys(difference.connection_id for difference in opened):
            remaining = ends_at - time.monotonic()
            if answered_at and remaining < SHORTEST_CALL:
                break
            try:
                page = client.list_connections(connection_id=connection_id, timeout=remaining)
            except (NangoError, InvalidInput) as failed:
                problem = failed
                break
            shown |= shown_by(page)
            absent = [
                difference.key
                for difference in opened
                if difference.connection_id == connection_id and difference.key not in shown
            ]
            hidden |= {key for key in absent if page.may_hide(*key) is not None}
            answered_at[connection_id] = page.observed_at
        answered = [difference for difference in opened if difference.connection_id in answered_at]
        observed_at = {difference.key: answered_at[difference.connection_id] for difference in answered}
        run = self._recheck(run, answered, shown, observed_at, events, hidden=hidden)
        run = self._records.record(run, self._records.progressed(run, calls=run.calls + len(answered_at)))
        if problem is not None and not answered_at:
            raise problem  # after an answer, its results are kept, and the next unit meets the problem
        return run

    def _recheck(
        self,
        run: Run,
        opened: Sequence[OpenDifference],
        shown: Mapping[ConnectionName, ListedConnection],
        observed_at: Mapping[ConnectionName, datetime],
        events: list[UUID],
        *,
        hidden: Collection[ConnectionName] = (),
    ) -> Run:
        with self.database.read() as session:
            ours = differences.recorded(session, run.environment, {difference.key for difference in opened})
        checked = second_check(opened, shown, ours, observed_at=observed_at, hidden=hidden, now=self.clock())
        run, made = self._records.store_events(run, checked)
        events += made
        return run

    # End: results of the events

    def _await_processing(self, run: Run) -> Run:
        with self.database.read() as session:
            waiting = differences.count_waiting(session, run.environment)
        if not waiting:
            return self._finish(run, run, RunOutcome.COMPLETED)
        if self.clock() - run.stage_since < PROCESS_WITHIN:
            return self._records.record(run, self._records.paused(run, 1.0))
        late = f"{counted(waiting, 'event')} still to be processed: does `waylink worker events` run?"
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
        self._records.drop_open(before, absences=True, others=True)
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
    """Whether rows were deleted since the last page, so that unread ones may have moved in front of this page."""
    if page.unreadable and not page.connections:
        return False  # unknown, and stepping back would repeat without end
    overlaps = page.connections and run.below is not None and page.connections[0].id >= run.below
    return 0 < window.start < run.covered and not overlaps


def _unread(run: Run, page: ConnectionPage) -> list[ListedConnection]:
    """The page's connections without those of earlier pages, and without those newer than the run."""
    return [listed for listed in page.connections if run.below is None or listed.id < run.below]


def _not_believed(missing: int, shown: int) -> str:
    return (
        f"{missing} of our connections are not in Nango's list, and {shown} are: not believed. Is the API key that "
        "of this environment? If they are gone indeed, run `waylink reconcile --accept-deletions`"
    )
