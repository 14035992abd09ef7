"""Statements of actions on stored events: retry, replay and backfill."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bounded_reads, bulk, documents
from app.db.models import Event, Job
from app.db.read import event_search
from app.db.read.searched_connections import Wanted
from app.domain import canary
from app.domain.search import parse_stored
from app.domain.states import EventState, JobState
from app.ids import first_id

_events: Final = bulk.table(Event)
_jobs: Final = bulk.table(Job)


@dataclass(frozen=True, slots=True)
class EventFilters:
    """Filters of events, all of which must hold; None: any value. `since` and `until` are times of receipt. as_of:
    without events that were received, or failed, later. q: a resolved search (`searched_connections`), whose times are
    in `since` and `until`, and whose id is in `event_id`.
    """

    failure: str | None = None
    type: str | None = None
    origin: str | None = None
    environment: str | None = None
    integration: str | None = None
    connection_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    q: str | None = None
    event_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ChosenEvent:
    """An event as it was when an action chose it."""

    id: UUID
    type: str | None
    state: str
    failure: str | None
    integration: str | None
    connection_id: str | None
    received_at: datetime


@dataclass(frozen=True, slots=True)
class HistoricEvent:
    """A routed event of a backfill. document: None where the stored one cannot be read. has_job: of the backfill's
    route.
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
    """Up to `limit` failed events by filters, oldest first, not locked."""
    chosen = _matching(session, select(*bulk.columns(Event, ChosenEvent)), filters, failed=True)
    return [ChosenEvent(*row) for row in session.execute(chosen.order_by(_events.c.id).limit(limit))]


def count(session: Session, filters: EventFilters, *, failed: bool) -> int:
    """The number of all matching events: failed ones, or those that were routed."""
    counted = _matching(session, select(func.count()).select_from(_events), filters, failed=failed)
    return session.scalar(counted) or 0


def page(session: Session, filters: EventFilters, *, failed: bool, after: UUID | None, limit: int) -> list[UUID]:
    """Up to `limit` ids of matching events behind `after`, in their order: failed ones, or those that were routed."""
    chosen = _matching(session, select(_events.c.id), filters, failed=failed)
    if after is not None:
        chosen = chosen.where(_events.c.id > after)
    return list(session.scalars(chosen.order_by(_events.c.id).limit(limit)))


def _matching(session: Session, statement: Select[Any], filters: EventFilters, *, failed: bool) -> Select[Any]:
    routed = _events.c.route_set.is_not(None)
    statement = statement.where(text("events.state = 'failed'") if failed else routed)
    statement = statement.where(_events.c.environment != canary.ENVIRONMENT)
    for column, value in (
        (_events.c.failure, filters.failure),
        (_events.c.type, filters.type),
        (_events.c.origin, filters.origin),
        (_events.c.environment, filters.environment),
        (_events.c.integration, filters.integration),
        (_events.c.connection_id, filters.connection_id),
        (_events.c.id, filters.event_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if filters.q is not None:
        statement = statement.where(*_searched(session, filters.q))
    if filters.since is not None:
        statement = statement.where(_events.c.id >= first_id(filters.since))
    if filters.until is not None:
        statement = statement.where(_events.c.id < first_id(filters.until))
    if filters.as_of is not None:
        not_later = or_(_events.c.processed_at.is_(None), _events.c.processed_at <= filters.as_of)
        statement = statement.where(_events.c.received_at <= filters.as_of, *((not_later,) if failed else ()))
    return statement


def _searched(session: Session, text: str) -> list[ColumnElement[bool]]:
    """The conditions of a search, by connections and owners as they are now."""
    search = parse_stored(text)
    wanted = Wanted(session, search)
    return [*event_search.conditions(search, Event), *wanted.texts(Event), *wanted.rows()]


def get_many(session: Session, ids: Collection[UUID]) -> list[ChosenEvent]:
    """The events with these ids, in their order, without those that do not exist."""
    chosen = select(*bulk.columns(Event, ChosenEvent)).where(bulk.among(bulk.dialect(session), _events.c.id))
    events = {row.id: ChosenEvent(*row) for row in session.execute(chosen, bulk.keys(ids))}
    return [events[event_id] for event_id in ids if event_id in events]


def revive(session: Session, ids: Collection[UUID], *, now: datetime) -> list[UUID]:
    """Make the failed ones of these events due, as if just received. Returns their ids."""
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
    suppressed: Collection[str],
    limit: int,
) -> list[HistoricEvent]:
    """Announced events with ids in [since, until): `limit` at most, and as many as fit into one read.

    suppressed: values of `problem` with which an earlier release marked events that it did not announce.
    """
    has_job = _jobs.c.id.is_not(None)
    mine = (_jobs.c.event_id == _events.c.id) & (_jobs.c.team == team) & (_jobs.c.route == route)
    chosen = (
        select(*documents.COLUMNS, has_job)
        .select_from(documents.SOURCE.outerjoin(_jobs, mine))
        .where(_events.c.id >= since, _events.c.id < until, *_announced(suppressed))
    )
    order = _events.c.id.desc() if newest_first else _events.c.id
    rows = bounded_reads.rows(session, chosen.order_by(order).limit(limit), size=lambda row: len(row[1]))
    read = bounded_reads.reader(session, _events.c.document)
    found = ((documents.FoundDocument(*row[:-1]), row[-1]) for row in rows)
    return [HistoricEvent(row.id, read(row.text), row.received_at, had) for row, had in found]


def texts(session: Session, ids: Collection[UUID], *, newest_first: bool) -> dict[UUID, str]:
    """Documents of events as JSON text, ordered by id: as many as fit into one read."""
    among = bulk.among(bulk.dialect(session), _events.c.id)
    chosen = select(*documents.COLUMNS).select_from(documents.SOURCE).where(among)
    ordered = chosen.order_by(_events.c.id.desc() if newest_first else _events.c.id)
    rows = bounded_reads.rows(session, ordered.params(**bulk.keys(ids)), size=lambda row: len(row[1]))
    return {row[0]: documents.FoundDocument(*row).text for row in rows}


def documents_to_fill(
    session: Session, ids: Collection[UUID], *, team: str, route: str, suppressed: Collection[str]
) -> dict[UUID, str]:
    """Documents, as JSON text, of the events that still exist and have no job of the route. Locks the events."""
    named = (_jobs.c.team == team, _jobs.c.route == route)
    mine = select(_jobs.c.id).where(_jobs.c.event_id == _events.c.id, *named).exists()
    among = bulk.among(bulk.dialect(session), _events.c.id)
    wanted = select(*documents.COLUMNS).select_from(documents.SOURCE).where(among, ~mine, *_announced(suppressed))
    # A job refers to its event, which must not be deleted meanwhile.
    held = wanted.order_by(_events.c.id).with_for_update(read=True, key_share=True, of=_events)
    rows = session.execute(held, bulk.keys(ids)).all()
    return {row.id: documents.FoundDocument(*row).text for row in rows}


def _announced(suppressed: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    was_announced = or_(_events.c.problem.is_(None), _events.c.problem.not_in(suppressed))
    return documents.EXISTS, _events.c.untold.is_(None), was_announced


def hold(session: Session, event_id: UUID) -> Event | None:
    """The event, locked against deletion until the transaction ends; None: there is none."""
    held = select(Event).where(Event.id == event_id).with_for_update(read=True, key_share=True)
    return session.scalar(held)


def jobs_of(session: Session, event_id: UUID) -> dict[tuple[str, str], ExistingJob]:
    """An event's jobs by (team, route)."""
    jobs = select(*bulk.columns(Job, ExistingJob)).where(_jobs.c.event_id == event_id)
    return {(row.team, row.route): ExistingJob(*row) for row in session.execute(jobs)}


def add_jobs(session: Session, jobs: Sequence[bulk.Row]) -> list[UUID]:
    """Add jobs; existing ones of the same event and route stay unchanged. Returns ids of the new jobs."""
    if not jobs:
        return []
    documents.keep(session, {row["event_id"] for row in jobs})
    bulk.insert(session, Job, jobs, skip_existing=True)
    made: Select[Any] = select(_jobs.c.id).where(bulk.among(bulk.dialect(session), _jobs.c.id)).order_by(_jobs.c.id)
    return list(session.scalars(made, bulk.keys(row["id"] for row in jobs)))


def last_backfill_due(session: Session, team: str, destination: str) -> datetime | None:
    """The latest due time of a destination's backfilled jobs without an attempt, or None."""
    due = (
        select(_jobs.c.next_at)
        .where(_jobs.c.team == team, _jobs.c.destination == destination, _jobs.c.state == JobState.AVAILABLE)
        .where(text("jobs.crashes = 0"), _jobs.c.blocked_by.is_(None), _jobs.c.backfill, _jobs.c.attempts == 0)
        .where(text("jobs.state IN ('available', 'running', 'retryable')"))
        .order_by(_jobs.c.next_at.desc())
        .limit(1)
    )
    latest: datetime | None = session.scalar(due)
    return latest
