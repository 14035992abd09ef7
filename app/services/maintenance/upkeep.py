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
    event_claims,
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
from app.domain.repeats import LATEST_REPORT

MAX_HINTS: Final = 20  # messages of one sweep: bounded, however large the backlog
PRUNE_CHUNK: Final = 1000
AUDIT_KEPT: Final = timedelta(days=365)
REPAIRS_KEPT: Final = timedelta(days=365)  # cases of connections that needed their end user, once closed
REPORTS_KEPT: Final = timedelta(days=30)  # reconciliations
FORECASTS_KEPT: Final = timedelta(days=35)  # of refreshes
PROCESSES_KEPT: Final = timedelta(days=1)  # since they reported last
ACKNOWLEDGED_KEPT: Final = timedelta(days=365)  # of single dead letters and failed events
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
    closed = now - 2 * window
    windows = _in_chunks(database, partial(event_rows.prune_deliveries, before=closed, limit=PRUNE_CHUNK))
    repeated = _in_chunks(database, partial(repeats.prune, before=closed, limit=PRUNE_CHUNK))
    old = now - RECORD_KEPT
    reported = _in_chunks(database, partial(repeats.prune_answers, before=old, limit=PRUNE_CHUNK))
    refused = _in_chunks(database, partial(rejections.prune, before=old, limit=PRUNE_CHUNK))
    keys = _in_chunks(database, partial(key_uses.prune, before=old, limit=PRUNE_CHUNK))
    actions = 0
    if audit_kept is not None:
        actions = _in_chunks(database, partial(audit.prune, before=now - audit_kept, limit=PRUNE_CHUNK))
    reports = _in_chunks(database, partial(reconciliations.prune, before=now - REPORTS_KEPT, limit=PRUNE_CHUNK))
    past = (now - FORECASTS_KEPT).date().isoformat()
    forecasts = _in_chunks(database, partial(refresh_forecasts.prune, before=past, limit=PRUNE_CHUNK))
    cases = _in_chunks(database, partial(repairs.prune, before=now - REPAIRS_KEPT, limit=PRUNE_CHUNK))
    counts = _in_chunks(database, partial(process_metrics.retire, now=now, limit=PRUNE_CHUNK))
    held = _in_chunks(database, partial(leases.prune, before=now - EDIT_LEASE, limit=PRUNE_CHUNK))
    ended = _in_chunks(database, partial(processes.prune, before=now - PROCESSES_KEPT, limit=PRUNE_CHUNK))
    seen = _in_chunks(database, partial(acknowledgements.prune, before=now - ACKNOWLEDGED_KEPT, limit=PRUNE_CHUNK))
    recorded = windows + repeated + reported + refused + keys + actions + reports + forecasts
    return recorded + cases + counts + held + ended + seen


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
