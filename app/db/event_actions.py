"""Statements for what people do with events: take failed ones up again, and give stored ones to routes once more."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, bindparam, cast, func, or_, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bounded, bulk
from app.db.decisions import name_teams
from app.db.models import Decision, Event, Job
from app.domain.states import EventState, JobState
from app.ids import first_id

_events: Final = bulk.table(Event)
_jobs: Final = bulk.table(Job)


@dataclass(frozen=True, slots=True)
class EventFilters:
    """Which failed events are meant: all that is given has to hold, None is any. Times are those of receipt."""

    failure: str | None = None
    type: str | None = None
    origin: str | None = None
    environment: str | None = None
    integration: str | None = None
    connection_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChosenEvent:
    """An event as it was when it was chosen."""

    id: UUID
    type: str | None
    state: str
    failure: str | None
    integration: str | None
    connection_id: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class HistoricEvent:
    """A judged event, and whether the route that is asked about has a job of it; document: None where what is stored
    cannot be read.
    """

    id: UUID
    document: dict[str, Any] | None
    received_at: datetime
    has_job: bool


@dataclass(frozen=True, slots=True)
class ExistingJob:
    id: UUID
    route: str
    route_version: int
    team: str
    state: str


def choose_failed(session: Session, filters: EventFilters, *, limit: int) -> list[ChosenEvent]:
    """Up to `limit` failed events that the filters mean, oldest first, none of them locked."""
    statement = select(*bulk.columns(Event, ChosenEvent)).where(text("events.state = 'failed'"))
    for column, value in (
        (_events.c.failure, filters.failure),
        (_events.c.type, filters.type),
        (_events.c.origin, filters.origin),
        (_events.c.environment, filters.environment),
        (_events.c.integration, filters.integration),
        (_events.c.connection_id, filters.connection_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if filters.since is not None:
        statement = statement.where(_events.c.id >= first_id(filters.since))
    if filters.until is not None:
        statement = statement.where(_events.c.id < first_id(filters.until))
    return [ChosenEvent(*row) for row in session.execute(statement.order_by(_events.c.id).limit(limit))]


def get_many(session: Session, ids: Collection[UUID]) -> list[ChosenEvent]:
    """The events with these ids, in their order; those that do not exist are left out."""
    chosen = select(*bulk.columns(Event, ChosenEvent)).where(bulk.among(bulk.dialect(session), _events.c.id))
    found = {row.id: ChosenEvent(*row) for row in session.execute(chosen, bulk.keys(ids))}
    return [found[one] for one in ids if one in found]


def revive(session: Session, ids: Collection[UUID], *, now: datetime) -> list[UUID]:
    """Take up those of these events that failed, as if they had just come; their ids."""
    return list(session.scalars(_reviving(bulk.dialect(session)), {**bulk.keys(ids), "now": now}))


@cache
def _reviving(dialect: str) -> ReturningUpdate[Any]:
    failed = select(_events.c.id).where(bulk.among(dialect, _events.c.id), _events.c.state == EventState.FAILED)
    chosen = failed.order_by(_events.c.id).with_for_update().cte("chosen")
    fresh = {"state": EventState.RECEIVED, "failure": None, "problem": None, "attempts": 0, "looks": 0}
    due = {"next_at": bindparam("now", type_=_events.c.next_at.type), "processed_at": None}
    return update(_events).where(_events.c.id == chosen.c.id).values(**fresh, **due).returning(_events.c.id)


def history(
    session: Session,
    *,
    team: str,
    route: str,
    since: UUID,
    until: UUID,
    newest_first: bool,
    untold: Collection[str],
    limit: int,
) -> list[HistoricEvent]:
    """Events from `since` up to, not including, `until` that teams were told of, as the route sees them: at most
    `limit`, and as many as fit into one read.

    untold: what stands as the problem of those that teams were not told of, where an earlier release judged them.
    """
    has_job = _jobs.c.id.is_not(None)
    mine = (_jobs.c.event_id == _events.c.id) & (_jobs.c.team == team) & (_jobs.c.route == route)
    chosen = (
        select(_events.c.id, cast(_events.c.document, Text), _events.c.received_at, has_job)
        .select_from(_events.outerjoin(_jobs, mine))
        .where(_events.c.id >= since, _events.c.id < until, *_told(untold))
    )
    order = _events.c.id.desc() if newest_first else _events.c.id
    found = bounded.rows(session, chosen.order_by(order).limit(limit), size=lambda row: len(row[1]))
    read = bounded.reader(session, _events.c.document)
    return [HistoricEvent(one, read(text), at, has_job) for one, text, at, has_job in found]


def documents(session: Session, ids: Collection[UUID], *, newest_first: bool) -> dict[UUID, str]:
    """The documents of these events as JSON text, in their order: as many as fit into one read."""
    among = bulk.among(bulk.dialect(session), _events.c.id)
    chosen = select(_events.c.id, func.coalesce(cast(_events.c.document, Text), "")).where(among)
    ordered = chosen.order_by(_events.c.id.desc() if newest_first else _events.c.id)
    return {
        row[0]: row[1] for row in bounded.rows(session, ordered.params(**bulk.keys(ids)), size=lambda row: len(row[1]))
    }


def documents_to_fill(
    session: Session, ids: Collection[UUID], *, team: str, route: str, untold: Collection[str]
) -> dict[UUID, str]:
    """The documents, as JSON text, of those of these events that are still there, and have no job of the route. They
    are held.
    """
    named = (_jobs.c.team == team, _jobs.c.route == route)
    mine = select(_jobs.c.id).where(_jobs.c.event_id == _events.c.id, *named).exists()
    among = bulk.among(bulk.dialect(session), _events.c.id)
    columns = _events.c.id, cast(_events.c.document, Text).label("document")
    chosen = select(*columns).where(among, ~mine, *_told(untold)).order_by(_events.c.id)
    held = chosen.with_for_update(read=True, key_share=True)  # a job refers to its event, which must not go meanwhile
    return {row.id: row.document for row in session.execute(held, bulk.keys(ids))}


def _told(untold: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    was_told = or_(_events.c.problem.is_(None), _events.c.problem.not_in(untold))
    return _events.c.document.is_not(None), _events.c.untold.is_(None), was_told


def hold(session: Session, event_id: UUID) -> Event | None:
    """The event, which stays until the transaction ends."""
    held = select(Event).where(Event.id == event_id).with_for_update(read=True, key_share=True)
    return session.scalar(held)


def jobs_of(session: Session, event_id: UUID) -> dict[tuple[str, str], ExistingJob]:
    """An event's jobs by team and route."""
    found = select(*bulk.columns(Job, ExistingJob)).where(_jobs.c.event_id == event_id)
    return {(row.team, row.route): ExistingJob(*row) for row in session.execute(found)}


def add_jobs(session: Session, decisions: Sequence[bulk.Row], jobs: Sequence[bulk.Row]) -> list[UUID]:
    """Write what routes matched; the ids of the jobs. What stands for an event and a route already stays as it is."""
    name_teams(session, [row["event_id"] for row in decisions])
    bulk.insert(session, Decision, decisions, skip_existing=True)
    bulk.insert(session, Job, jobs, skip_existing=True)
    if not jobs:
        return []
    made: Select[Any] = select(_jobs.c.id).where(bulk.among(bulk.dialect(session), _jobs.c.id)).order_by(_jobs.c.id)
    return list(session.scalars(made, bulk.keys(row["id"] for row in jobs)))


def last_backfill_due(session: Session, team: str, destination: str) -> datetime | None:
    """When the last of a destination's jobs from history is due that nobody has tried yet."""
    due = (
        select(_jobs.c.next_at)
        .where(_jobs.c.team == team, _jobs.c.destination == destination, _jobs.c.state == JobState.AVAILABLE)
        .where(text("jobs.crashes = 0"), _jobs.c.blocked_by.is_(None), _jobs.c.backfill, _jobs.c.attempts == 0)
        .where(text("jobs.state IN ('available', 'running', 'retryable')"))
        .order_by(_jobs.c.next_at.desc())
        .limit(1)
    )
    found: datetime | None = session.scalar(due)
    return found
