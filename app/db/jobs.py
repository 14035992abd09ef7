"""Statements on jobs and their attempts."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final
from uuid import UUID

from msgspec import Raw
from sqlalchemy import Select, Text, bindparam, cast, func, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bulk, claiming
from app.db.models import Event, Job
from app.domain.states import UNFINISHED_JOBS, JobState

_jobs: Final = bulk.table(Job)
# In the statement itself: SQLite does not use a partial index for states that come as parameters.
UNFINISHED: Final = _jobs.c.state.in_(bindparam("states", UNFINISHED_JOBS, expanding=True, literal_execute=True))
READY: Final = UNFINISHED & _jobs.c.blocked_by.is_(None) & text("crashes = 0")
HELD: Final = UNFINISHED & _jobs.c.blocked_by.is_(None) & text("crashes > 0")  # running, or its worker was killed


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """What a worker gets to hand over. `attempts` and `crashes` count this claim."""

    id: UUID
    event_id: UUID
    route: str
    route_version: int
    team: str
    destination: str
    name: str
    attempts: int
    crashes: int
    created_at: datetime


def claim(
    session: Session, ids: Collection[UUID], *, limit: int, now: datetime, lease: timedelta, suspects: bool = False
) -> list[ClaimedJob]:
    """Take up to `limit` due jobs: the hinted ones, then any others. Each is counted and leased.

    `suspects` are those whose last claim brought no result; they are kept apart from the others.
    """
    statement = partial(_claiming, suspects=suspects)
    taken = claiming.take(session, statement, ClaimedJob, ids, limit=limit, now=now, lease=lease)
    return sorted(taken, key=lambda job: job.id)


@cache
def _claiming(dialect: str, *, suspects: bool, hinted: bool = False) -> ReturningUpdate[Any]:
    due = (
        select(_jobs.c.id)
        .where(UNFINISHED, _jobs.c.next_at <= bindparam("now"), _jobs.c.blocked_by.is_(None))
        .where(text("crashes > 0" if suspects else "crashes = 0"))
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    if hinted:
        chosen = due.where(bulk.among(dialect, _jobs.c.id)).order_by(_jobs.c.id).cte("chosen")
    else:
        chosen = due.order_by(_jobs.c.next_at).cte("chosen")
    counted = {"attempts": _jobs.c.attempts + 1, "crashes": _jobs.c.crashes + 1}
    return (
        update(_jobs)
        .where(_jobs.c.id == chosen.c.id)
        .values(state=JobState.RUNNING, next_at=bindparam("until"), **counted)
        .returning(*bulk.columns(Job, ClaimedJob))
    )


def lock_running(session: Session, ids: Collection[UUID]) -> dict[UUID, int]:
    """Those of these jobs that are running, locked in order, and the number of the attempt each is at."""
    found = session.execute(_locking(bulk.dialect(session)), bulk.keys(ids))
    return {job_id: attempts for job_id, attempts in found}  # noqa: C416 - dict() would ask the result for its keys


@cache
def _locking(dialect: str) -> Select[Any]:
    running = select(_jobs.c.id, _jobs.c.attempts).where(_jobs.c.state == JobState.RUNNING)
    return running.where(bulk.among(dialect, _jobs.c.id)).order_by(_jobs.c.id).with_for_update()


def documents(session: Session, event_ids: Collection[UUID]) -> dict[UUID, Raw]:
    """The judged document of each event, as the JSON text that it is: it is passed on, not looked at."""
    found = session.execute(_documents(bulk.dialect(session)), bulk.keys(event_ids))
    return {event_id: Raw((document or "{}").encode()) for event_id, document in found}


@cache
def _documents(dialect: str) -> Select[Any]:
    events = bulk.table(Event)
    return select(events.c.id, cast(events.c.document, Text)).where(bulk.among(dialect, events.c.id))


def any_of(session: Session, event_id: UUID) -> bool:
    """Whether any job came of an event."""
    return session.scalar(select(_jobs.c.id).where(_jobs.c.event_id == event_id).limit(1)) is not None


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """How many jobs are due, counted up to a bound."""
    due = select(_jobs.c.id).where(UNFINISHED, _jobs.c.next_at <= now, _jobs.c.blocked_by.is_(None)).limit(at_most)
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0
