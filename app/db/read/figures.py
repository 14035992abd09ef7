"""Figures about all rows, each read from an index and bounded, so that ten million rows cost no more than ten."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, select, text
from sqlalchemy.orm import Session

from app.db import event_claims
from app.db.jobs import HELD, READY, UNFINISHED
from app.db.models import Audit, Connection, Destination, Event, Job
from app.domain import canary
from app.domain.states import AuditOutcome, EventState
from app.ids import BULK_RUN, first_id

AT_MOST: Final = 10_000  # rows read for one figure
SAMPLED: Final = 1_000  # received events whose problems are read


@dataclass(frozen=True, slots=True)
class EventFigures:
    """`waiting` is counted up to AT_MOST + 1."""

    waiting: int  # received and not processed
    oldest_due: datetime | None  # since when the earliest one is due
    leased: bool  # whether a worker holds some


@dataclass(frozen=True, slots=True)
class JobFigures:
    """`unfinished`, without parked ones, are counted up to AT_MOST + 1 in all, by state; the others likewise."""

    unfinished: dict[str, int]
    parked: dict[str, int]  # by the block
    oldest_due: datetime | None


def events(session: Session, *, now: datetime) -> EventFigures:
    """Figures of events."""
    # In the order of the index over received events, or PostgreSQL might read the table because of its statistics.
    ours = Event.environment != canary.ENVIRONMENT
    waiting = select(Event.id).where(Event.state == EventState.RECEIVED, ours).order_by(Event.next_at)
    due = select(Event.next_at).where(Event.state == EventState.RECEIVED, ours, event_claims.free(session, now=now))
    return EventFigures(
        waiting=_count(session, waiting),
        oldest_due=_oldest_due(session, due, now),
        leased=event_claims.is_at_work(session, now=now),
    )


@dataclass(frozen=True, slots=True)
class HeldEvents:
    """Received events that wait for another system, which did not answer when it was asked, for the same problem."""

    problem: str
    count: int
    since: datetime  # when the first of them was received


def held_events(session: Session) -> list[HeldEvents]:
    """Events that wait for another system, by problem, of the SAMPLED received ones that are due first; the oldest
    first.
    """
    found = select(Event.problem, Event.received_at, Event.looks).where(text("events.state = 'received'"))
    found = found.where(Event.environment != canary.ENVIRONMENT)
    sample = found.order_by(Event.next_at).limit(SAMPLED).subquery()
    since = func.min(sample.c.received_at)
    held = select(sample.c.problem, func.count(), since).where(sample.c.problem.is_not(None), sample.c.looks == 0)
    return [HeldEvents(*row) for row in session.execute(held.group_by(sample.c.problem).order_by(since))]


def jobs(session: Session, *, now: datetime) -> JobFigures:
    """Figures of jobs."""
    # In the order of the indexes, one for each kind.
    ours, queue = Job.team != canary.TEAM, (Job.team, Job.destination)
    ready, held = (select(Job.state).where(kind, ours).order_by(*queue) for kind in (READY, HELD))
    parked = select(Job.blocked_by).where(UNFINISHED, ours, Job.blocked_by.is_not(None)).order_by(*queue)
    unfinished = _counts(session, ready, AT_MOST + 1)
    if (left := AT_MOST + 1 - sum(unfinished.values())) > 0:
        unfinished += _counts(session, held, left)
    return JobFigures(
        unfinished=dict(unfinished),
        parked=dict(_counts(session, parked, AT_MOST + 1)),
        oldest_due=min(filter(None, (_longest_due(session, kind, now) for kind in (READY, HELD))), default=None),
    )


def oldest_event(session: Session) -> datetime | None:
    """The receipt of the oldest event that is kept; None: there is none."""
    found: datetime | None = session.scalar(select(Event.received_at).order_by(Event.id).limit(1))
    return found


def needing_reconnect(session: Session) -> int:
    """Number of connections that wait for their end user to reconnect, counted up to AT_MOST + 1."""
    # As a literal, so that the partial index is used.
    return _count(session, select(Connection.id).where(text("status = 'needs_reconnect'")))


def actions_begun(session: Session, *, since: datetime, before: datetime) -> int:
    """Number of audited actions begun in that time and not concluded, counted up to AT_MOST + 1.

    Without bulk runs, which may take long, and have a check of their own.
    """
    begun = select(Audit.id).where(
        Audit.outcome == AuditOutcome.BEGUN,
        Audit.id >= first_id(since),
        Audit.id < first_id(before),
        ~Audit.subject.startswith(f"{BULK_RUN}_", autoescape=True),
    )
    return _count(session, begun)


def _longest_due(session: Session, which: ColumnElement[bool], now: datetime) -> datetime | None:
    """Time of the first due job, by one index access per destination. Rate-limited ones are left out: they wait on
    purpose.
    """
    mine = (Job.team == Destination.team, Job.destination == Destination.name)
    first = select(Job.next_at).where(which, *mine, Job.next_at <= now).order_by(Job.next_at).limit(1)
    found: datetime | None = session.scalar(
        select(func.min(first.correlate(Destination).scalar_subquery())).where(
            Destination.rate_per_second.is_(None), Destination.team != canary.TEAM
        )
    )
    return found


def _oldest_due(session: Session, due: Select[Any], now: datetime) -> datetime | None:
    next_at = due.selected_columns[0]
    found: datetime | None = session.scalar(due.where(next_at <= now).order_by(next_at).limit(1))
    return found


def _counts(session: Session, values: Select[Any], at_most: int) -> Counter[str]:
    """The number of each value among the first rows."""
    first = values.limit(at_most).subquery()
    value = first.c[0]
    return Counter({row[0]: row[1] for row in session.execute(select(value, func.count()).group_by(value))})


def _count(session: Session, ids: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(ids.limit(AT_MOST + 1).subquery())) or 0
