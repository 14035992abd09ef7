"""Figures over time, as differences of the counts of all processes. Each minute is one short transaction."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.db import figures as rows
from app.db import process_metrics
from app.db.engine import Database
from app.db.read import figures as present
from app.domain.figures import FigureName, Step, counted
from app.domain.metric_counts import MILLION, add, bounded, since
from app.services.metrics.own_counts import METRICS

MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class FigureRecorder:
    """Records the figures of each minute once it is over; the first process that looks does it."""

    database: Database
    clock: Callable[[], datetime]
    _looked: datetime | None = field(default=None, init=False)  # the minute of the last look

    def record(self, _last: bool = False) -> None:
        """Record the minute that is over, unless that was done. Raises SQLAlchemyError."""
        now = self.clock()
        minute = Step.MINUTE.start(now)
        if self._looked == minute:
            return
        with self.database.write(durable=False) as session:
            _record(session, minute, now=now)
        self._looked = minute


def _record(session: Session, minute: datetime, *, now: datetime) -> None:
    before = rows.totals(session, now=minute)
    if before is not None and before[0] >= minute:
        return
    # As they are served: what was counted together because of the bound must not appear apart later.
    counts = bounded(add(row.counts for row in process_metrics.read(session, now=now)))
    rows.save_totals(session, counts, at=minute)
    if before is None:
        return
    figures = counted(since(counts, before[1]), list(METRICS))
    sampled = {}
    for queue, count, oldest in _queues(session, now):
        sampled[FigureName.BACKLOG, (queue,)] = (count * MILLION,)
        age = max((now - oldest).total_seconds(), 0.0) if oldest else 0.0
        sampled[FigureName.OLDEST_DUE_SECONDS, (queue,)] = (round(age * MILLION),)
    rows.put(session, figures | sampled, at=minute - MINUTE)


def _queues(session: Session, now: datetime) -> list[tuple[str, int, datetime | None]]:
    events, jobs = present.events(session, now=now), present.jobs(session, now=now)
    return [
        ("events", events.waiting, events.oldest_due),
        ("jobs", sum(jobs.unfinished.values()), jobs.oldest_due),
    ]
