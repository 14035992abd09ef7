"""Statements on reconciliation runs: leases, progress and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Reconciliation
from app.domain.reconciling import RunOutcome, Stage, Trigger
from app.ids import RECONCILIATION, new_id, show

_runs: Final = bulk.table(Reconciliation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An immutable run. Columns: models.Reconciliation."""

    id: UUID
    environment: str
    trigger: str
    dry_run: bool
    accept_deletions: bool
    stage: str
    stage_since: datetime
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_at: datetime
    attempts: int = 0
    failures: int = 0
    holder: UUID | None = None
    covered: int = 0
    below: int | None = None
    relist: bool = False
    pages: int = 0
    calls: int = 0
    seen: int = 0
    found: Mapping[str, int] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, Any] = field(default_factory=dict)
    missed_by_webhook: int = 0
    healed: int = 0
    unhealed: int = 0
    heal_seconds_sum: float = 0.0
    heal_seconds_max: float = 0.0
    heal_count: int = 0
    outcome: str | None = None
    problem: str | None = None


_FIXED: Final = {"id", "environment", "trigger", "dry_run", "accept_deletions", "created_at", "started_at"}
_columns: Final = bulk.columns(Reconciliation, Run)


def request(
    session: Session,
    environment: str,
    *,
    trigger: Trigger,
    dry_run: bool = False,
    accept_deletions: bool = False,
    now: datetime,
) -> UUID | None:
    """Open a run that is due at once. Returns None while one is running: the schema allows one per environment."""
    run = Run(
        id=new_id(),
        environment=environment,
        trigger=trigger,
        dry_run=dry_run,
        accept_deletions=accept_deletions,
        stage=Stage.LISTING,
        stage_since=now,
        created_at=now,
        next_at=now,
    )
    added = bulk.insert_for(session, Reconciliation).values(asdict(run)).on_conflict_do_nothing().returning(_runs.c.id)
    run_id: UUID | None = session.scalar(added)
    return run_id


def claim(session: Session, *, now: datetime, lease: timedelta, run_id: UUID | None = None) -> Run | None:
    """Claim the run that is due longest, or `run_id` if due: a lease, and one attempt more."""
    due = select(_runs.c.id).where(_runs.c.finished_at.is_(None), _runs.c.next_at <= now)
    if run_id is not None:
        due = due.where(_runs.c.id == run_id)
    chosen = due.order_by(_runs.c.next_at).limit(1).with_for_update(skip_locked=True).cte("chosen")
    taken = session.execute(
        update(_runs)
        .where(_runs.c.id == chosen.c.id)
        .values(
            attempts=_runs.c.attempts + 1,
            holder=new_id(),
            next_at=now + lease,
            started_at=func.coalesce(_runs.c.started_at, now),
        )
        .returning(*_columns)
    ).first()
    return _run(taken) if taken else None


def holds(session: Session, run: Run) -> bool:
    """Whether the run's lease is still held by its holder. Locks the row."""
    statement = select(_runs.c.id).where(_runs.c.id == run.id, _runs.c.holder == run.holder).with_for_update()
    return session.scalar(statement) is not None


def save(session: Session, run: Run) -> None:
    """Write back a run whose lease is held."""
    values = {field.name: getattr(run, field.name) for field in fields(run) if field.name not in _FIXED}
    session.execute(update(_runs).where(_runs.c.id == run.id).values(values))


def get(session: Session, run_id: UUID) -> Run | None:
    row = session.execute(select(*_columns).where(_runs.c.id == run_id)).first()
    return _run(row) if row else None


def running(session: Session, environment: str) -> Run | None:
    """The environment's unfinished run, or None."""
    row = session.execute(
        select(*_columns).where(_runs.c.environment == environment, _runs.c.finished_at.is_(None))
    ).first()
    return _run(row) if row else None


def newest(
    session: Session, *, environment: str | None = None, before: UUID | None = None, limit: int = 50
) -> list[Run]:
    """Runs, newest first. before: only runs older than this one."""
    statement = select(*_columns).order_by(_runs.c.id.desc()).limit(limit)
    if environment is not None:
        statement = statement.where(_runs.c.environment == environment)
    if before is not None:
        statement = statement.where(_runs.c.id < before)
    return [_run(row) for row in session.execute(statement)]


def last(session: Session, environment: str, *, completed: bool = False) -> Run | None:
    """The newest run that is not dry; with `completed`, the newest completed one of these."""
    statement = select(*_columns).where(_runs.c.environment == environment, _runs.c.dry_run.is_(False))
    if completed:
        statement = statement.where(_runs.c.outcome == RunOutcome.COMPLETED)
    row = session.execute(statement.order_by(_runs.c.id.desc()).limit(1)).first()
    return _run(row) if row else None


def anything_due(session: Session, *, now: datetime) -> bool:
    """Whether a run is due."""
    due = select(_runs.c.id).where(_runs.c.finished_at.is_(None), _runs.c.next_at <= now)
    return session.scalar(due.limit(1)) is not None


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` runs that finished before, except each environment's newest completed one (the import)."""
    newer = _runs.alias()
    superseded = exists().where(
        newer.c.environment == _runs.c.environment,
        newer.c.id > _runs.c.id,
        newer.c.dry_run.is_(False),
        newer.c.outcome == RunOutcome.COMPLETED,
    )
    old = select(_runs.c.id).where(_runs.c.finished_at < before, superseded).limit(limit)
    gone = session.scalars(old).all()
    if gone:
        session.execute(delete(_runs).where(bulk.among(bulk.dialect(session), _runs.c.id)), bulk.keys(gone))
    return len(gone)


def shown(run: Run) -> dict[str, Any]:
    """A run's report as a JSON object, described in docs/reconcile.md."""
    times = ("created_at", "started_at", "finished_at")
    plain = ("environment", "trigger", "dry_run", "accept_deletions", "stage", "outcome", "problem")
    counts = ("pages", "calls", "seen", "found", "counted", "missed_by_webhook", "healed", "unhealed")
    mean = run.heal_seconds_sum / run.heal_count if run.heal_count else None
    return {
        "id": show(RECONCILIATION, run.id),
        **{name: getattr(run, name) for name in plain},
        **{name: at.isoformat() if (at := getattr(run, name)) else None for name in times},
        "next_at": run.next_at.isoformat() if run.finished_at is None else None,
        **{name: getattr(run, name) for name in counts},
        "heal_seconds_mean": mean,
        "heal_seconds_max": run.heal_seconds_max if run.heal_count else None,
        "samples": run.samples,
    }


def _run(row: Sequence[Any]) -> Run:
    return Run(**dict(zip((column.name for column in _columns), row, strict=True)))
