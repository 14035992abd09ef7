"""Processes as they reported themselves, for people.

Ages are by the database's clock, so that the clock of no process makes it look alive or dead. SQLite has no clock of
its own: there all processes share the host's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Process
from app.db.types import UtcDateTime
from app.domain import liveness
from app.domain.liveness import ProcessKind, ProcessState, Sighting
from app.domain.timestamps import read_moment

AT_MOST: Final = 1000  # processes that are read, the newest first
ALIVE: Final = frozenset({ProcessState.RUNNING, ProcessState.STANDING_STILL})


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenProcess:
    """A process. Times are by its clock, ages in seconds by the database's.

    replaced: it is silent, and another process of its kind was started since. clock_ahead_seconds: its clock minus the
    database's, at its last report and to within the time of the statement; 0 on SQLite.
    """

    id: UUID
    kind: ProcessKind
    host: str
    pid: int
    version: str
    schema_revision: str
    state: ProcessState
    replaced: bool
    started_at: datetime
    stopped_at: datetime | None
    started_seconds: float
    seen_seconds: float
    written_seconds: float
    clock_ahead_seconds: float
    progress: Mapping[str, float]  # by kind of work, seconds since it did some
    task: str | None
    task_seconds: float | None

    @property
    def is_alive(self) -> bool:
        """It reports."""
        return self.state in ALIVE


def all_processes(session: Session, *, now: datetime) -> list[SeenProcess]:
    """All processes of the last day, the newest first. now: by the reader's clock, which counts on SQLite only."""
    if bulk.dialect(session) == "postgresql":
        now = session.scalars(select(func.clock_timestamp(type_=UtcDateTime()))).one()
    rows = session.scalars(select(Process).order_by(Process.id.desc()).limit(AT_MOST)).all()
    known = [row for row in rows if row.kind in set(ProcessKind)]
    sightings = [_sighting(row, now) for row in known]
    replaced = liveness.replaced(sightings)
    return [
        _seen(row, sighting, replaced=sighting.id in replaced) for row, sighting in zip(known, sightings, strict=True)
    ]


def missing_kinds(processes: Sequence[SeenProcess]) -> list[ProcessKind]:
    """Kinds of which no process is running."""
    running = {process.kind for process in processes if process.state is ProcessState.RUNNING}
    return [kind for kind in ProcessKind if kind not in running]


def versions(processes: Sequence[SeenProcess]) -> dict[str, int]:
    """Numbers of living processes by version. More than one key is a skew."""
    return _counted([process.version for process in processes if process.is_alive])


def schema_revisions(processes: Sequence[SeenProcess]) -> dict[str, int]:
    """Numbers of living processes by the schema revision that their release needs."""
    return _counted([process.schema_revision for process in processes if process.is_alive])


def last_done(processes: Sequence[SeenProcess], work: str) -> float | None:
    """Seconds since any process did this kind of work; None: not within what is known."""
    return min((process.progress[work] for process in processes if work in process.progress), default=None)


def _sighting(row: Process, now: datetime) -> Sighting:
    written = (now - (row.database_at or row.written_at)).total_seconds()

    def before(at: datetime) -> float:
        """Seconds before now: by the process's clock up to its report, and by the database's since."""
        return max(0.0, written + (row.written_at - at).total_seconds())

    return Sighting(
        id=row.id,
        kind=ProcessKind(row.kind),
        host=row.host,
        started=before(row.started_at),
        seen=before(row.seen_at),
        written=max(0.0, written),
        stopped_at=row.stopped_at,
    )


def _seen(row: Process, sighting: Sighting, *, replaced: bool) -> SeenProcess:
    ahead = (row.written_at - row.database_at).total_seconds() if row.database_at else 0.0

    def before(at: datetime) -> float:
        return max(0.0, sighting.written + (row.written_at - at).total_seconds())

    moments = {kind: read_moment(at) if isinstance(at, str) else None for kind, at in row.progress.items()}
    return SeenProcess(
        id=row.id,
        kind=sighting.kind,
        host=row.host,
        pid=row.pid,
        version=row.version,
        schema_revision=row.schema_revision,
        state=sighting.state,
        replaced=replaced,
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        started_seconds=sighting.started,
        seen_seconds=sighting.seen,
        written_seconds=sighting.written,
        clock_ahead_seconds=ahead,
        progress={kind: before(at) for kind, at in moments.items() if at is not None},
        task=row.task,
        task_seconds=before(row.task_since) if row.task_since is not None else None,
    )


def shown(process: SeenProcess) -> dict[str, Any]:
    """A process as commands and the API show it. Ages in whole seconds; progress by kind of work."""
    return {
        "kind": str(process.kind),
        "host": process.host,
        "pid": process.pid,
        "state": str(process.state),
        "seen": round(process.seen_seconds),
        "task": process.task,
        "task_seconds": round(process.task_seconds) if process.task_seconds is not None else None,
        "progress": {work: round(age) for work, age in sorted(process.progress.items())},
        "version": process.version,
        "schema_revision": process.schema_revision,
        "clock_ahead": round(process.clock_ahead_seconds, 1),
        "started_at": process.started_at.isoformat(),
        "stopped_at": process.stopped_at.isoformat() if process.stopped_at else None,
        "replaced": process.replaced,
    }


def _counted(values: Sequence[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}
