"""Statements on jobs and their attempts."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db.models import Event, Job
from app.domain.states import UNFINISHED_JOBS, JobState


def claim(
    session: Session, ids: Collection[UUID], *, limit: int, now: datetime, lease: timedelta, suspects: bool = False
) -> list[Job]:
    """Take up to `limit` due jobs: the hinted ones, then any others. Each is counted and leased.

    `suspects` are those whose last claim brought no result; they are kept apart from the others.
    """
    due = (
        select(Job)
        .where(Job.state.in_(UNFINISHED_JOBS), Job.next_at <= now, Job.blocked_by.is_(None))
        .where(Job.crashes > 0 if suspects else Job.crashes == 0)
        .with_for_update(skip_locked=True)
    )
    taken = list(session.scalars(due.where(Job.id.in_(ids)).order_by(Job.id).limit(limit))) if ids else []
    if len(taken) < limit:
        others = due.where(Job.id.not_in([job.id for job in taken])) if taken else due
        taken += session.scalars(others.order_by(Job.next_at).limit(limit - len(taken)))
    if taken:
        session.execute(
            update(Job)
            .where(Job.id.in_([job.id for job in taken]))
            .values(state=JobState.RUNNING, attempts=Job.attempts + 1, crashes=Job.crashes + 1, next_at=now + lease)
            .execution_options(synchronize_session="evaluate")
        )
    return sorted(taken, key=lambda job: job.id)


def lock(session: Session, ids: Collection[UUID]) -> list[Job]:
    """The jobs with these ids, locked in order."""
    statement = select(Job).where(Job.id.in_(ids)).order_by(Job.id).with_for_update()
    return list(session.scalars(statement.execution_options(populate_existing=True)))


def documents(session: Session, event_ids: Collection[UUID]) -> dict[UUID, dict[str, object]]:
    """The judged document of each event."""
    rows = session.execute(select(Event.id, Event.document).where(Event.id.in_(event_ids)))
    return {event_id: document or {} for event_id, document in rows}


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """How many jobs are due, counted up to a bound."""
    due = (
        select(Job.id)
        .where(Job.state.in_(UNFINISHED_JOBS), Job.next_at <= now, Job.blocked_by.is_(None))
        .limit(at_most)
    )
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0
