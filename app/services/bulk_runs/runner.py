"""The runner: carries out bulk runs, a chunk of rows per short transaction.

The effect of a chunk, the cursor and the counts are committed together under the run's lease. So a run that is killed
at any moment is carried on behind its last chunk by the next holder of the lease, and no row is acted on twice.
Opens short transactions.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.db import audit
from app.db import bulk_runs as rows
from app.db.bulk_runs import Run
from app.db.engine import Database
from app.deadlines import BATCH, BULK_LEASE, MAX_CLAIMS
from app.domain.bulk_runs import OF_CONNECTIONS, BulkAct, BulkState, RowResult
from app.domain.states import AuditOutcome
from app.errors import InvalidInput
from app.ids import BULK_RUN, show
from app.services.bulk_runs import row_acts
from app.services.bulk_runs.row_acts import Cursor, NotNowError, RowAct
from app.services.bulk_runs.run_requests import counts
from app.services.routing.cache import RouteCache
from app.telemetry import get_logger

WORK_SECONDS: Final = 10.0  # per call of `work`: other work of the process has its turn, and a shutdown need not wait
PAGE: Final = 10_000  # rows whose ids are read at once
LONGEST_REST: Final = 0.5  # seconds between two chunks

Hint = Callable[[Sequence[UUID]], None]
log = get_logger(__name__)


class LeaseLostError(Exception):
    """The run was paused, cancelled or taken over: the chunk is not carried out."""


@dataclass(slots=True)
class BulkRunner:
    """Carries out runs, one at a time; one per process.

    hint_jobs, hint_events: called after each commit with the rows that are due by it. of_connections: the acts
    on connections; without them those are left to others.
    """

    database: Database
    clock: Callable[[], datetime]
    routes: RouteCache
    hint_jobs: Hint
    hint_events: Hint
    of_connections: Callable[[Run], RowAct] | None = None
    _busy: threading.Lock = field(default_factory=threading.Lock, init=False)

    def work(self, *, seconds: float = WORK_SECONDS, run_id: UUID | None = None) -> bool:
        """Work on due runs, or on one, for `seconds`. Returns whether there may be more to do at once."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            ends_at = time.monotonic() + seconds
            while (run := self._claim(run_id)) is not None:
                self.carry_on(run, seconds=ends_at - time.monotonic())
                if time.monotonic() >= ends_at:
                    return True
        finally:
            self._busy.release()
        return False

    def carry_on(self, run: Run, *, seconds: float = WORK_SECONDS, told: Callable[[Run], None] | None = None) -> None:
        """Carry out a claimed run until it ends, is paused or cancelled, or the time is over. told: each progress."""
        try:
            self._carry_on(run, time.monotonic() + seconds, told or (lambda _: None))
        except LeaseLostError:
            log.info("bulk_run_left", run=show(BULK_RUN, run.id))
        except NotNowError as held:
            log.info("bulk_run_held", run=show(BULK_RUN, run.id), why=str(held))
            later = self.clock() + timedelta(seconds=held.seconds)
            self.set_aside(run, next_at=later, problem=str(held), is_try=held.is_try)

    def set_aside(
        self, run: Run, *, next_at: datetime | None = None, problem: str | None = None, is_try: bool = False
    ) -> None:
        """Give a claimed run back, to be carried on by any worker; nothing where it is not held any more.

        next_at: not before then, for a `problem` that passes. is_try: the claim counts as a try of its next row.
        """
        with self.database.write() as session:
            if rows.holds(session, run):
                current = rows.get(session, run.id) or run
                waiting = replace(current, state=BulkState.WAITING, holder=None, next_at=next_at or self.clock())
                attempts = current.attempts if is_try else 0
                rows.save(session, replace(waiting, attempts=attempts, problem=problem))

    def _claim(self, run_id: UUID | None) -> Run | None:
        with self.database.read() as session:  # most ticks find nothing due, which needs no write lock
            if not rows.anything_due(session, now=self.clock()):
                return None
        with self.database.write() as session:
            known = [act for act in BulkAct if self.of_connections is not None or act not in OF_CONNECTIONS]
            return rows.claim(session, known, now=self.clock(), lease=BULK_LEASE, run_id=run_id)

    def _carry_on(self, run: Run, ends_at: float, told: Callable[[Run], None]) -> None:
        if run.attempts > MAX_CLAIMS:
            self._end(run, BulkState.FAILED, problem=f"claimed {MAX_CLAIMS} times without a result")
            return
        try:
            act = self._act_of(run)
        except InvalidInput as unreadable:
            self._end(run, BulkState.FAILED, problem=str(unreadable))
            return
        size = act.chunk_size(self.database)
        while page := self._page(run, act):
            for start in range(0, len(page), size):
                began = time.monotonic()
                run = self._chunk(run, act, page[start : start + size])
                told(run)
                if time.monotonic() >= ends_at:
                    self.set_aside(run)
                    return
                # Ingest and deliveries have the database for as long as the chunk had it.
                time.sleep(min(time.monotonic() - began, LONGEST_REST))
        self._end(run, BulkState.DONE)

    def _act_of(self, run: Run) -> RowAct:
        if run.act not in OF_CONNECTIONS:
            return row_acts.act_of(run, self.routes)
        assert self.of_connections is not None  # noqa: S101 - others are not claimed
        return self.of_connections(run)

    def _page(self, run: Run, act: RowAct) -> list[Cursor]:
        left = min(PAGE, run.counted - run.looked_at)
        if left <= 0:
            return []
        after = None if run.after_id is None else (run.after_at, run.after_id)
        with self.database.read() as session:
            return act.page(session, after, limit=left)

    def _chunk(self, run: Run, act: RowAct, chunk: Sequence[Cursor]) -> Run:
        """Act on these rows. Returns the run after it; raises LeaseLostError, with nothing done."""
        ids = [row_id for _, row_id in chunk]
        act.prepare(self.database, ids)
        with self.database.write() as session:
            act.lock(session)
            if not rows.holds(session, run):
                raise LeaseLostError
            now = self.clock()
            taken = act.take(session, ids, now)
            rows.keep_unchanged(session, run, taken.unchanged)
            failed = sum(row.result == RowResult.FAILED for row in taken.unchanged)
            after_at, after_id = chunk[-1]
            run = replace(
                run,
                done=run.done + len(taken.changed),
                failed=run.failed + failed,
                left_alone=run.left_alone + len(taken.unchanged) - failed,
                after_at=after_at,
                after_id=after_id,
                next_at=now + BULK_LEASE,
                attempts=1,
                problem=None,
            )
            rows.save(session, run)
        if taken.due:
            if run.act == BulkAct.RETRY_EVENTS or run.act in OF_CONNECTIONS:
                self.hint_events(taken.due)
            else:
                self.hint_jobs(taken.due[:BATCH])  # one message: deliveries claim all that is due then
        return run

    def _end(self, run: Run, state: BulkState, *, problem: str | None = None) -> None:
        """Store the end. Rows that were counted and did not match any more when their turn came were left alone."""
        gone = max(0, run.counted - run.looked_at) if state is BulkState.DONE else 0
        with self.database.write() as session:
            if not rows.holds(session, run):
                raise LeaseLostError
            now = self.clock()
            left = run.left_alone + gone
            ended = replace(run, state=state, holder=None, finished_at=now, problem=problem, left_alone=left)
            rows.save(session, ended)
            outcome = AuditOutcome.DONE if state is BulkState.DONE else AuditOutcome.FAILED
            result: Mapping[str, Any] = counts(ended) if problem is None else {**counts(ended), "problem": problem}
            audit.add_result(session, ended.audit_id, outcome, result)
        log.info("bulk_run_ended", run=show(BULK_RUN, run.id), state=state, problem=problem, **counts(ended))
