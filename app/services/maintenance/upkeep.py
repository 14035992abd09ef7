"""Periodic upkeep: hints for due work, and deletion of old rows.

Each step is a short transaction.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy.orm import Session

from app.db import (
    acknowledgements,
    audit,
    bulk_runs,
    event_claims,
    figures,
    idempotent_calls,
    key_uses,
    leases,
    process_metrics,
    processes,
    reconciliations,
    refresh_forecasts,
    rejections,
    repairs,
    repeats,
)
from app.db import events as event_rows
from app.db.engine import Database
from app.deadlines import EDIT_LEASE, EVENT_BATCH
from app.domain.figures import Step
from app.domain.repeats import LATEST_REPORT

MAX_HINTS: Final = 20  # messages of one sweep: bounded, however large the backlog
PRUNE_CHUNK: Final = 1000
AUDIT_KEPT: Final = timedelta(days=365)
REPAIRS_KEPT: Final = timedelta(days=365)  # cases of connections that needed their end user, once closed
REPORTS_KEPT: Final = timedelta(days=30)  # reconciliations and bulk runs
FORECASTS_KEPT: Final = timedelta(days=35)  # of refreshes
PROCESSES_KEPT: Final = timedelta(days=1)  # since they reported last
ACKNOWLEDGED_KEPT: Final = timedelta(days=365)  # of single dead letters and failed events
CALLS_KEPT: Final = timedelta(days=1)  # of the API with idempotency keys
RECORD_KEPT: Final = timedelta(days=7)  # rejections, and uses of keys that are no longer live


def due_batches(database: Database, *, now: datetime) -> int:
    """Number of batches of due events, MAX_HINTS at most, so that a large backlog is not counted to its end.

    Jobs need no hints: the delivery loop polls for due ones every second.
    """
    with database.read() as session:
        events = event_claims.count_due(session, now=now, at_most=EVENT_BATCH * MAX_HINTS)
    return -(-events // EVENT_BATCH)


def prune(
    database: Database,
    *,
    window: timedelta,
    audit_kept: timedelta | None = AUDIT_KEPT,
    clock: Callable[[], datetime],
) -> int:
    """Delete old rows in chunks of short transactions. Returns their number. audit_kept: None keeps the audit for ever.

    Events and jobs are deleted by `app.services.maintenance.retention`.
    """
    now = clock()
    # Twice the window: another host whose clock is a little behind must still find its window.
    window_ended, old = now - 2 * window, now - RECORD_KEPT
    steps: list[Callable[..., int]] = [
        partial(event_rows.prune_deliveries, before=window_ended),
        partial(repeats.prune, before=window_ended),
        partial(repeats.prune_answers, before=old),
        partial(rejections.prune, before=old),
        partial(key_uses.prune, before=old),
        partial(reconciliations.prune, before=now - REPORTS_KEPT),
        partial(bulk_runs.prune, before=now - REPORTS_KEPT),
        partial(refresh_forecasts.prune, before=(now - FORECASTS_KEPT).date().isoformat()),
        partial(repairs.prune, before=now - REPAIRS_KEPT),
        partial(leases.prune, before=now - EDIT_LEASE),
        partial(process_metrics.retire, now=now),  # before its process goes
        partial(processes.prune, before=now - PROCESSES_KEPT),
        partial(acknowledgements.prune, before=now - ACKNOWLEDGED_KEPT),
        partial(idempotent_calls.prune, before=now - CALLS_KEPT),
        *(partial(figures.prune, step=step, before=now - step.kept) for step in Step),
    ]
    if audit_kept is not None:
        steps.append(partial(audit.prune, before=now - audit_kept))
    return sum(_in_chunks(database, partial(step, limit=PRUNE_CHUNK)) for step in steps)


def recheck_repeats(database: Database, *, now: datetime) -> int:
    """Make events due again whose repeated deliveries are undecided for long. Returns their number."""
    with database.write() as session:
        return repeats.recheck(session, before=now - LATEST_REPORT, now=now)


def _in_chunks(database: Database, delete: Callable[[Session], int]) -> int:
    total = 0
    while True:
        with database.write() as session:
            gone = delete(session)
        total += gone
        if gone < PRUNE_CHUNK:
            return total
