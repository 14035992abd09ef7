"""Statements on the counts of processes.

Counts are never lost nor added twice: a process alone writes its row, over itself, and the row of an ended process is
deleted by the transaction that adds it to the ended ones'. All rows are read by one statement, so that a count is seen
in one of both places.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, literal, or_, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import ProcessMetrics
from app.db.types import UtcDateTime
from app.domain import metric_counts
from app.domain.metric_counts import Counts

ENDED: Final = UUID(int=0)  # the row of the ended processes
SILENT: Final = timedelta(minutes=5)  # a process that has not written for longer is taken as ended


@dataclass(frozen=True, slots=True)
class ProcessCounts:
    """A process's row, or that of the ended ones, whose kind is empty. age: seconds since it was written."""

    id: UUID
    kind: str
    ended: bool
    age: float
    counts: Counts
    gauges: Counts


def begin(session: Session, identity: UUID, *, kind: str, now: datetime) -> None:
    """Make the empty row of a process, unless it is there."""
    _make(session, identity, kind=kind, now=now)


def write(
    session: Session,
    identity: UUID,
    *,
    counts: Counts | None,
    gauges: Counts,
    now: datetime,
    ended: bool = False,
) -> bool:
    """Write over a process's row. counts: None leaves them. False: it was taken as ended, with what it had."""
    values: dict[str, Any] = {"seen_at": _clock(session, now), "gauges": metric_counts.encoded(gauges), "ended": ended}
    if counts is not None:
        values["counts"] = metric_counts.encoded(counts)
    statement = update(ProcessMetrics).where(ProcessMetrics.id == identity).values(values)
    written = session.execute(statement.returning(ProcessMetrics.id).execution_options(synchronize_session=False))
    return written.first() is not None


def read(session: Session, *, now: datetime) -> list[ProcessCounts]:
    """All rows."""
    columns = ProcessMetrics.id, ProcessMetrics.kind, ProcessMetrics.ended, ProcessMetrics.seen_at
    found = select(*columns, ProcessMetrics.counts, ProcessMetrics.gauges, _clock(session, now).label("now"))
    return [
        ProcessCounts(
            id=row.id,
            kind=row.kind,
            ended=row.ended,
            age=(row.now - row.seen_at).total_seconds(),
            counts=metric_counts.decoded(row.counts),
            gauges=metric_counts.decoded(row.gauges),
        )
        for row in session.execute(found)
    ]


def retire(session: Session, *, now: datetime, limit: int) -> int:
    """Add up to `limit` rows of ended or silent processes to the ended ones'. Returns their number."""
    _make(session, ENDED, kind="", now=now)
    # Locked first: of two transactions the second one sees what the first has added.
    locked = select(ProcessMetrics.counts).where(ProcessMetrics.id == ENDED).with_for_update()
    before = session.execute(locked).one().counts
    old = or_(ProcessMetrics.ended, ProcessMetrics.seen_at < _clock(session, now, back=SILENT))
    which = select(ProcessMetrics.id).where(ProcessMetrics.id != ENDED, old).limit(limit).with_for_update()
    ids = list(session.scalars(which))
    if not ids:
        return 0
    gone = delete(ProcessMetrics).where(ProcessMetrics.id.in_(ids)).returning(ProcessMetrics.counts)
    rows = session.execute(gone.execution_options(synchronize_session=False)).all()
    everything = metric_counts.add(metric_counts.decoded(counts) for counts in [before, *(row.counts for row in rows)])
    write(session, ENDED, counts=metric_counts.bounded(everything), gauges={}, now=now)
    return len(rows)


def _make(session: Session, identity: UUID, *, kind: str, now: datetime) -> None:
    empty = metric_counts.encoded({})
    row = bulk.insert_for(session, ProcessMetrics).values(
        id=identity, kind=kind, seen_at=_clock(session, now), counts=empty, gauges=empty
    )
    session.execute(row.on_conflict_do_nothing())


def _clock(session: Session, now: datetime, *, back: timedelta = timedelta(0)) -> ColumnElement[datetime]:
    """The database's clock, where it may differ from that of the processes."""
    if bulk.dialect(session) == "sqlite":
        return literal(now - back, UtcDateTime())
    return func.now(type_=UtcDateTime()) - literal(back) if back else func.now(type_=UtcDateTime())
