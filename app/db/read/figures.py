"""Figures about the whole, each read from an index and bounded, so that ten million rows cost no more than ten."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, select, text
from sqlalchemy.orm import Session

from app.db.jobs import HELD, READY, UNFINISHED
from app.db.models import Audit, Connection, Destination, Event, Job
from app.domain.states import AuditOutcome, EventState, JobState
from app.ids import first_id

AT_MOST: Final = 10_000  # rows that are looked at for one figure


@dataclass(frozen=True, slots=True)
class EventFigures:
    """`waiting` and `failed` are counted up to AT_MOST + 1."""

    waiting: int  # received and not settled
    oldest_due: datetime | None  # when the one that is due longest became due
    leased: bool  # a worker holds one
    failed: int


@dataclass(frozen=True, slots=True)
class JobFigures:
    """`unfinished`, of those that are not parked, are counted up to AT_MOST + 1 in all, by state; the others alike."""

    unfinished: dict[str, int]
    parked: dict[str, int]  # by what they wait for
    oldest_due: datetime | None
    discarded: int


def events(session: Session, *, now: datetime, lease: timedelta, since: datetime) -> EventFigures:
    """`since`: from when on events that failed are counted, by their arrival."""
    # In the order of the index over received events, or PostgreSQL might take its statistics' word and read the table.
    waiting = select(Event.id).where(Event.state == EventState.RECEIVED).order_by(Event.next_at)
    held = select(Event.attempts).where(
        Event.state == EventState.RECEIVED, Event.next_at > now, Event.next_at <= now + lease
    )
    # Those that wait for a second look are due in the future too, but count no attempt meanwhile.
    soonest = held.order_by(Event.next_at).limit(AT_MOST).subquery()
    return EventFigures(
        waiting=_count(session, waiting),
        oldest_due=_oldest_due(session, select(Event.next_at).where(Event.state == EventState.RECEIVED), now),
        leased=session.scalar(select(soonest.c.attempts).where(soonest.c.attempts > 0).limit(1)) is not None,
        failed=_count(session, select(Event.id).where(Event.state == EventState.FAILED, Event.id >= first_id(since))),
    )


def jobs(session: Session, *, now: datetime, since: datetime) -> JobFigures:
    """`since`: from when on jobs that were discarded are counted, by their making."""
    # In the order of the indexes, of which each has one kind.
    ready, held = (select(Job.state).where(one).order_by(Job.team, Job.destination) for one in (READY, HELD))
    parked = select(Job.blocked_by).where(UNFINISHED, Job.blocked_by.is_not(None)).order_by(Job.team, Job.destination)
    states = [state for one in (ready, held) for state in session.scalars(one.limit(AT_MOST + 1))]
    discarded = select(Job.id).where(Job.state == JobState.DISCARDED, Job.id >= first_id(since))
    return JobFigures(
        unfinished=dict(Counter(states[: AT_MOST + 1])),
        parked=dict(Counter(session.scalars(parked.limit(AT_MOST + 1)))),
        oldest_due=min(filter(None, (_longest_due(session, one, now) for one in (READY, HELD))), default=None),
        discarded=_count(session, discarded),
    )


def needing_reconnect(session: Session) -> int:
    """How many connections wait for their end user to connect again, counted up to AT_MOST + 1."""
    # Spelled out, so that the partial index is seen to hold them.
    return _count(session, select(Connection.id).where(text("status = 'needs_reconnect'")))


def acts_begun(session: Session, *, since: datetime, before: datetime) -> int:
    """How many acts of the audit were begun in that time and have no end, counted up to AT_MOST + 1."""
    begun = select(Audit.id).where(
        Audit.outcome == AuditOutcome.BEGUN, Audit.id >= first_id(since), Audit.id < first_id(before)
    )
    return _count(session, begun)


def _longest_due(session: Session, which: ColumnElement[bool], now: datetime) -> datetime | None:
    """One look into the line of each destination. Where a rate limit is set, waiting is what was asked for."""
    mine = (Job.team == Destination.team, Job.destination == Destination.name)
    first = select(Job.next_at).where(which, *mine, Job.next_at <= now).order_by(Job.next_at).limit(1)
    found: datetime | None = session.scalar(
        select(func.min(first.correlate(Destination).scalar_subquery())).where(Destination.rate_per_second.is_(None))
    )
    return found


def _oldest_due(session: Session, due: Select[Any], now: datetime) -> datetime | None:
    next_at = due.selected_columns[0]
    found: datetime | None = session.scalar(due.where(next_at <= now).order_by(next_at).limit(1))
    return found


def _count(session: Session, ids: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(ids.limit(AT_MOST + 1).subquery())) or 0
