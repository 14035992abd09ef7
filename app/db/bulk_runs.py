"""Statements on bulk runs: leases, progress, changes of state, and the rows that were not changed."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, delete, func, insert, select, text, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import BulkRun, BulkRunRow
from app.domain.bulk_runs import LEADS_TO, TAKES, BulkAct, BulkState, Change, RowResult
from app.ids import new_id

ROWS_KEPT: Final = 1000  # of those that a run has not changed
_runs: Final = bulk.table(BulkRun)
_rows: Final = bulk.table(BulkRunRow)
_due: Final = text("bulk_runs.state IN ('waiting', 'running')")  # literal, for SQLite's partial index


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An immutable run. Columns: models.BulkRun."""

    id: UUID
    act: str
    team: str | None
    chosen: str
    reason: str | None
    actor: str
    state: str
    counted: int
    done: int = 0
    failed: int = 0
    left_alone: int = 0
    after_id: UUID | None = None
    after_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_at: datetime
    attempts: int = 0
    holder: UUID | None = None
    problem: str | None = None
    audit_id: UUID

    @property
    def looked_at(self) -> int:
        return self.done + self.failed + self.left_alone


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A row that a run has not changed, and why."""

    id: UUID
    result: str
    why: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A run that is due and that no worker carries on."""

    id: UUID
    act: str
    since: datetime


_PROGRESS: Final = (
    *("state", "done", "failed", "left_alone", "after_id", "after_at"),
    *("finished_at", "next_at", "attempts", "holder", "problem"),
)
_columns: Final = bulk.columns(BulkRun, Run)


def add(session: Session, run: Run) -> None:
    session.execute(insert(_runs).values(asdict(run)))


def claim(
    session: Session, acts: Collection[BulkAct], *, now: datetime, lease: timedelta, run_id: UUID | None = None
) -> Run | None:
    """Claim the run of one of these acts that is due longest, or `run_id` if due: a lease, and one attempt more."""
    due = select(_runs.c.id).where(_due, _runs.c.next_at <= now, _runs.c.act.in_([str(act) for act in acts]))
    if run_id is not None:
        due = due.where(_runs.c.id == run_id)
    chosen = due.order_by(_runs.c.next_at).limit(1).with_for_update(skip_locked=True).cte("chosen")
    taken = session.execute(
        update(_runs)
        .where(_runs.c.id == chosen.c.id)
        .values(
            state=BulkState.RUNNING,
            attempts=_runs.c.attempts + 1,
            holder=new_id(),
            next_at=now + lease,
            started_at=func.coalesce(_runs.c.started_at, now),
        )
        .returning(*_columns)
    ).first()
    return _run(taken) if taken else None


def anything_due(session: Session, *, now: datetime) -> bool:
    """Whether a run is due."""
    due = select(_runs.c.id).where(_due, _runs.c.next_at <= now).limit(1)
    return session.scalar(due) is not None


def holds(session: Session, run: Run) -> bool:
    """Whether the run's holder still has its lease, and it is neither paused nor cancelled. Locks the row."""
    mine = (_runs.c.id == run.id, _runs.c.holder == run.holder, _runs.c.state == BulkState.RUNNING)
    return session.scalar(select(_runs.c.id).where(*mine).with_for_update()) is not None


def save(session: Session, run: Run) -> None:
    """Write back the progress of a run whose lease is held."""
    values = {name: getattr(run, name) for name in _PROGRESS}
    session.execute(update(_runs).where(_runs.c.id == run.id).values(values))


def change(session: Session, run_id: UUID, wanted: Change, *, now: datetime) -> Run | None:
    """Pause, resume or cancel a run whose state allows it; None for another one. A worker that has it stops."""
    allowed = [str(state) for state in TAKES[wanted]]
    values: dict[str, Any] = {"state": LEADS_TO[wanted], "holder": None, "next_at": now, "attempts": 0}
    if wanted is Change.CANCEL:
        values["finished_at"] = now
    changed = update(_runs).where(_runs.c.id == run_id, _runs.c.state.in_(allowed)).values(values)
    row = session.execute(changed.returning(*_columns)).first()
    return _run(row) if row else None


def keep_unchanged(session: Session, run: Run, rows: Sequence[Unchanged]) -> None:
    """Keep rows that the run has not changed, up to ROWS_KEPT of it. The run's own counts are those before them."""
    room = ROWS_KEPT - run.failed - run.left_alone
    kept = [{"run_id": run.id, "row_id": row.id, "result": row.result, "why": row.why} for row in rows[: max(0, room)]]
    bulk.insert(session, BulkRunRow, kept, skip_existing=True)


def unchanged(session: Session, run_id: UUID, *, limit: int = ROWS_KEPT) -> list[Unchanged]:
    """The kept rows, failed ones first, by id."""
    columns = _rows.c.row_id, _rows.c.result, _rows.c.why
    order = (_rows.c.result != RowResult.FAILED, _rows.c.row_id)
    found = session.execute(select(*columns).where(_rows.c.run_id == run_id).order_by(*order).limit(limit))
    return [Unchanged(*row) for row in found]


def get(session: Session, run_id: UUID) -> Run | None:
    row = session.execute(select(*_columns).where(_runs.c.id == run_id)).first()
    return _run(row) if row else None


def newest(
    session: Session,
    *,
    team: str | None = None,
    act: str | None = None,
    state: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[Run]:
    """Runs, newest first. before: only runs older than this one."""
    statement: Select[Any] = select(*_columns).order_by(_runs.c.id.desc()).limit(limit)
    for column, value in ((_runs.c.team, team), (_runs.c.act, act), (_runs.c.state, state)):
        if value is not None:
            statement = statement.where(column == value)
    if before is not None:
        statement = statement.where(_runs.c.id < before)
    return [_run(row) for row in session.execute(statement)]


def standing(session: Session, *, before: datetime, limit: int) -> list[Standing]:
    """Runs that have been due since before that time, the longest due first."""
    due = select(_runs.c.id, _runs.c.act, _runs.c.next_at).where(_due, _runs.c.next_at < before)
    return [Standing(*row) for row in session.execute(due.order_by(_runs.c.next_at).limit(limit))]


def count_unfinished(session: Session, *, at_most: int) -> int:
    """The number of runs that wait or run, counted up to `at_most`."""
    found = select(_runs.c.id).where(_due).limit(at_most).subquery()
    return session.scalar(select(func.count()).select_from(found)) or 0


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` runs that finished before, with their rows."""
    old = list(session.scalars(select(_runs.c.id).where(_runs.c.finished_at < before).limit(limit)))
    if old:
        keys = bulk.keys(old)
        session.execute(delete(_rows).where(bulk.among(bulk.dialect(session), _rows.c.run_id)), keys)
        session.execute(delete(_runs).where(bulk.among(bulk.dialect(session), _runs.c.id)), keys)
    return len(old)


def _run(row: Sequence[Any]) -> Run:
    return Run(**dict(zip((field.name for field in fields(Run)), row, strict=True)))
