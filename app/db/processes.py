"""Statements on processes: each writes its own row."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, null, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """The row of a process, written by itself. Times are by its clock.

    seen_at: when its main loop last answered. progress: by kind of work, when it did some last.
    """

    id: UUID
    kind: str
    host: str
    pid: int
    version: str
    schema_revision: str
    started_at: datetime
    seen_at: datetime
    written_at: datetime
    stopped_at: datetime | None
    progress: Mapping[str, datetime]
    task: str | None
    task_since: datetime | None


def write(session: Session, report: ProcessReport) -> None:
    """Write a process's row. A row that was pruned meanwhile is written anew."""
    clock: Any = func.clock_timestamp() if bulk.dialect(session) == "postgresql" else null()
    row = {name: getattr(report, name) for name in report.__dataclass_fields__}
    row |= {
        "progress": {kind: at.isoformat() for kind, at in report.progress.items()},
        "database_at": clock,
    }
    statement = bulk.insert_for(session, Process).values(**row)
    new = statement.excluded
    changing = ("seen_at", "written_at", "database_at", "stopped_at", "progress", "task", "task_since")
    changes = {name: new[name] for name in changing}
    session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changes))


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete rows of processes that have not reported since then. Returns how many."""
    old = select(Process.id).where(Process.written_at < before).limit(limit)
    gone = session.execute(delete(Process).where(Process.id.in_(old)).returning(Process.id))
    return len(gone.all())
