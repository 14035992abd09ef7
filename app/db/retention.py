"""Statements that delete history: finished events with their jobs, decisions and attempts."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Delete, Select, delete, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningDelete

from app.db import bulk
from app.db.models import Event, Job
from app.domain.states import UNFINISHED_JOBS, EventState, JobState
from app.ids import first_id

_events: Final = bulk.table(Event)
_jobs: Final = bulk.table(Job)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Numbers of deleted rows. `discarded`: deleted jobs that had been discarded and not retried."""

    events: int = 0
    jobs: int = 0
    discarded: int = 0

    def __add__(self, other: "Forgotten") -> "Forgotten":
        return Forgotten(self.events + other.events, self.jobs + other.jobs, self.discarded + other.discarded)


def page(session: Session, *, after: UUID | None, before: datetime, limit: int) -> list[UUID]:
    """Events received before a time, oldest first, after the event `after`."""
    old = select(_events.c.id).where(_events.c.id < first_id(before))
    if after is not None:
        old = old.where(_events.c.id > after)
    return list(session.scalars(old.order_by(_events.c.id).limit(limit)))


def forget(session: Session, ids: Collection[UUID], *, before: datetime) -> Forgotten:
    """Delete those of these events that are finished and whose jobs all ended before `before`, with their jobs.

    A job never goes without its event: it has the decision that explains the event, too.
    """
    dialect = bulk.dialect(session)
    # A transaction that makes a job of an event locks it: such an event is skipped this time.
    held = list(session.scalars(_holding(dialect), bulk.keys(ids)))
    jobs = session.execute(_holding_jobs(dialect), bulk.keys(held)).all()
    staying = {job.event_id for job in jobs if not _ended(job.state, job.finished_at, before)}
    gone = [job for job in jobs if job.event_id not in staying]
    session.execute(_forgetting_jobs(dialect), bulk.keys(job.id for job in gone))
    events = list(session.scalars(_forgetting_events(dialect), bulk.keys(set(held) - staying)))
    return Forgotten(len(events), len(gone), sum(job.state == JobState.DISCARDED for job in gone))


def _ended(state: str, finished_at: datetime | None, before: datetime) -> bool:
    return state not in UNFINISHED_JOBS and finished_at is not None and finished_at < before


@cache
def _holding(dialect: str) -> Select[Any]:
    over = select(_events.c.id).where(bulk.among(dialect, _events.c.id), _events.c.state != EventState.RECEIVED)
    return over.order_by(_events.c.id).with_for_update(skip_locked=True)


@cache
def _holding_jobs(dialect: str) -> Select[Any]:
    """The jobs of events. Locked, so that none is redelivered meanwhile."""
    columns = _jobs.c.id, _jobs.c.event_id, _jobs.c.state, _jobs.c.finished_at
    return select(*columns).where(bulk.among(dialect, _jobs.c.event_id)).order_by(_jobs.c.id).with_for_update()


@cache
def _forgetting_jobs(dialect: str) -> Delete:
    return delete(_jobs).where(bulk.among(dialect, _jobs.c.id))


@cache
def _forgetting_events(dialect: str) -> ReturningDelete[Any]:
    has_job = select(_jobs.c.id).where(_jobs.c.event_id == _events.c.id).exists()
    return delete(_events).where(bulk.among(dialect, _events.c.id), ~has_job).returning(_events.c.id)
