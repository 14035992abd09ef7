"""Statements that delete history: finished events with their decisions, jobs and attempts."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, bindparam, delete, select
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
    """Delete those of these events that are finished, with all jobs ended before `before`.

    A job is deleted once it ended before then; an unfinished job stays, and its event with it.
    """
    dialect = bulk.dialect(session)
    # A transaction that makes a job of an event locks it: such an event is skipped this time.
    held = list(session.scalars(_holding(dialect), bulk.keys(ids)))
    states = list(session.scalars(_forgetting_jobs(dialect), {**bulk.keys(held), "before": before}))
    events = list(session.scalars(_forgetting_events(dialect), bulk.keys(held)))
    return Forgotten(len(events), len(states), sum(state == JobState.DISCARDED for state in states))


@cache
def _holding(dialect: str) -> Select[Any]:
    over = select(_events.c.id).where(bulk.among(dialect, _events.c.id), _events.c.state != EventState.RECEIVED)
    return over.order_by(_events.c.id).with_for_update(skip_locked=True)


@cache
def _forgetting_jobs(dialect: str) -> ReturningDelete[Any]:
    ended = _jobs.c.state.not_in(UNFINISHED_JOBS)
    old = _jobs.c.finished_at < bindparam("before", type_=_jobs.c.finished_at.type)
    return delete(_jobs).where(bulk.among(dialect, _jobs.c.event_id), ended, old).returning(_jobs.c.state)


@cache
def _forgetting_events(dialect: str) -> ReturningDelete[Any]:
    has_job = select(_jobs.c.id).where(_jobs.c.event_id == _events.c.id).exists()
    return delete(_events).where(bulk.among(dialect, _events.c.id), ~has_job).returning(_events.c.id)
