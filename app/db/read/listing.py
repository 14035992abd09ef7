"""Lists of events and jobs as plain objects, newest first, filtered and bounded."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, exists, func, select
from sqlalchemy.orm import Session

from app.db import attempts, decisions, documents
from app.db.jobs import UNFINISHED
from app.db.models import RARE_TYPES, Connection, Event, Job
from app.db.read import event_search, searching
from app.db.read.searching import Page, Place
from app.db.read.shown_rows import shown_attempt, shown_event, shown_job, shown_time
from app.domain import canary
from app.domain.event import EventType
from app.domain.search import Field, Search, Term, types_of
from app.domain.states import EventState, JobState
from app.domain.traceparent import trace_id
from app.errors import NotFound
from app.ids import EVENT, JOB, first_id, show

MOST_RECURRENCES: Final = 10_000  # counted
MOST_NAMESAKES: Final = 20  # connections with one id of Nango's, in several environments and integrations


@dataclass(frozen=True, slots=True)
class ListFilters:
    """Exact matches; None is any. `before` continues a list after the row with that id.

    search: rows that a page looks at where no index has what is asked for (`searching`); None: as many as it takes.
    """

    limit: int = 50
    before: UUID | None = None
    search: int | None = None
    since: datetime | None = None  # of rows made then or later
    until: datetime | None = None  # of rows made before
    processed_since: datetime | None = None  # of events: the end of their processing
    processed_until: datetime | None = None
    parked: bool | None = None  # of unfinished jobs
    ended_since: datetime | None = None  # of jobs
    ended_until: datetime | None = None
    # Of events: its times and its id are in `since`, `until` and `event_id`. Of connections: resolved.
    query: Search | None = None
    state: str | None = None
    type: str | None = None
    origin: str | None = None
    environment: str | None = None
    integration: str | None = None
    connection_id: str | None = None
    status: str | None = None
    team: str | None = None
    destination: str | None = None
    route: str | None = None
    name: str | None = None
    fault: str | None = None
    event_id: UUID | None = None
    unlinked: bool = False
    drift: bool = False
    duplicates: bool = False  # connections whose owner has several
    kept_alive: bool = False  # connections whose token is not kept fresh
    failing: bool = False  # connections whose last renewal failed, or that need their end user
    tags: Mapping[str, str] = field(default_factory=dict)  # each with exactly this value
    user: str | None = None  # the owner's external id
    organization: str | None = None
    expires_after: datetime | None = None  # of connections that are not deleted: when the token lapses
    expires_before: datetime | None = None
    grant_after: datetime | None = None  # when the grant lapses
    grant_before: datetime | None = None


# What an index answers, or a part of the table that is small enough.
_INDEXED_EVENTS: Final = frozenset({EventState.RECEIVED, EventState.FAILED})
_INDEXED_JOBS: Final = tuple(state for state in JobState if state is not JobState.COMPLETED)


def events(session: Session, filters: ListFilters) -> Page:
    own, read, query = partial(_are, filters), partial(_rows, session, shown_event), _query(filters)
    statement = page(select(Event).where(*own(Event)), Event.id, filters)
    if filters.team is not None:
        statement = statement.where(_concerns(filters.team))
    if event_search.looks_further(query):
        place = _place(filters, indexed=filters.event_id is not None)
        return event_search.page_of(session, statement, query, own=own, place=place, team=filters.team, read=read)
    parts = _parts(session, filters)
    if parts is not None:
        # One after the other: PostgreSQL would read the whole table for an alternative of them.
        rows = [row for part in parts for row in read(statement.where(part))]
        return Page(sorted(rows, key=itemgetter("id"), reverse=True)[: filters.limit])
    states = {filters.state, query.value(Field.STATE)}
    is_processed = filters.processed_since is not None or filters.processed_until is not None
    is_few = bool(states & _INDEXED_EVENTS) and not is_processed
    indexed = filters.team is not None or filters.event_id is not None or is_few
    return searching.page_of(session, statement, Event.id, EVENT, place=_place(filters, indexed=indexed), read=read)


def event(session: Session, event_id: UUID, *, team: str | None = None) -> dict[str, Any]:
    """One event with its document, decisions and jobs. Raises NotFound.

    team: only rows that concern this team, and no raw body; an event without a job of this team is not found.
    """
    mine = [_concerns(team)] if team is not None else []
    found = session.scalar(select(Event).where(Event.id == event_id, Event.environment != canary.ENVIRONMENT, *mine))
    if found is None:
        raise NotFound("event", show(EVENT, event_id))
    found_jobs = jobs(session, ListFilters(limit=1000, event_id=event_id, team=team))
    return shown_event(found) | {
        "last_seen_at": shown_time(found.last_seen_at),
        "processed_at": shown_time(found.processed_at),
        "next_look_at": shown_time(found.next_at) if found.state == "received" else None,
        "signing_key": found.signing_key if team is None else None,
        "attempts": found.attempts,
        "looks": found.looks,
        "recurrences": _recurrences(session, found),
        "previous_id": _previous(session, found, team),
        "trace_id": _trace(found.traceparent),
        "body": found.body.decode("utf-8", "replace") if found.body is not None and team is None else None,
        "document": documents.of(session, found),
        "route_set": found.route_set,
        "decisions": [asdict(decision) for decision in decisions.of_event(session, event_id, team=team)],
        "jobs": found_jobs,
    }


def _trace(traceparent: str | None) -> str | None:
    return None if traceparent is None else trace_id(traceparent)


def jobs(session: Session, filters: ListFilters) -> Page:
    statement = equal(
        select(Job),
        (Job.state, filters.state),
        (Job.team, filters.team),
        (Job.destination, filters.destination),
        (Job.route, filters.route),
        (Job.name, filters.name),
        (Job.fault, filters.fault),
        (Job.event_id, filters.event_id),
    ).where(Job.team != canary.TEAM, *between(Job.finished_at, filters.ended_since, filters.ended_until))
    if filters.parked is not None:
        statement = statement.where(
            UNFINISHED, Job.blocked_by.is_not(None) if filters.parked else Job.blocked_by.is_(None)
        )
    is_ended = filters.ended_since is not None or filters.ended_until is not None
    is_few = filters.parked is not None or (filters.state in _INDEXED_JOBS and not is_ended)
    indexed = is_few or filters.event_id is not None
    statement, read = page(statement, Job.id, filters), partial(_rows, session, shown_job)
    return searching.page_of(session, statement, Job.id, JOB, place=_place(filters, indexed=indexed), read=read)


def job(session: Session, job_id: UUID, *, team: str | None = None) -> dict[str, Any]:
    """One job with its attempts. Raises NotFound, also for one of another team than `team`."""
    found = session.get(Job, job_id)
    if found is None or found.team == canary.TEAM or team not in {None, found.team}:
        raise NotFound("job", show(JOB, job_id))
    traceparent = session.scalar(select(Event.traceparent).where(Event.id == found.event_id))
    return shown_job(found) | {
        "trace_id": _trace(traceparent),
        "attempt_log": [shown_attempt(attempt) for attempt in attempts.of_job(session, found)],
    }


def equal(statement: Select[Any], *pairs: tuple[Any, Any]) -> Select[Any]:
    for column, value in pairs:
        if value is not None:
            statement = statement.where(column == value)
    return statement


def _are(filters: ListFilters, of: Any) -> list[ColumnElement[bool]]:
    """Conditions on the own columns of events. of: `Event`, or a subquery with its columns."""
    pairs = (
        (of.id, filters.event_id),
        (of.state, filters.state),
        (of.type, filters.type),
        (of.origin, filters.origin),
        (of.environment, filters.environment),
        (of.integration, filters.integration),
    )
    found = [column == value for column, value in pairs if value is not None]
    asked = event_search.conditions(filters.query, of) if filters.query is not None else []
    found += between(of.processed_at, filters.processed_since, filters.processed_until)
    return [*found, *asked, of.environment != canary.ENVIRONMENT]


def between(column: Any, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    """Conditions on a time: from `since` on, before `until`."""
    found = [column >= since] if since is not None else []
    return [*found, column < until] if until is not None else found


def _parts(session: Session, filters: ListFilters) -> list[ColumnElement[bool]] | None:
    """Conditions, each with an index, one of which the events meet; None where no index has them."""
    if filters.connection_id is not None:
        return _of_connection(session, filters.connection_id)
    rare = _rare_types(filters)
    # Written out, so that PostgreSQL sees that the index has them.
    return None if rare is None else [Event.type == bindparam(None, kind, literal_execute=True) for kind in rare]


def _query(filters: ListFilters) -> Search:
    """The search, with the connection of the other filters where both are given."""
    query = filters.query or Search()
    if filters.connection_id is None or not event_search.looks_further(query):
        return query
    return Search((*query.terms, Term(Field.CONNECTION, filters.connection_id)))


def _rare_types(filters: ListFilters) -> list[str] | None:
    """The types that are asked for, where the index of rare ones has them all; None where it does not."""
    asked = filters.query.value(Field.TYPE) if filters.query is not None else None
    wanted: set[str] = {filters.type} if filters.type is not None else set()
    if asked is not None:
        wanted = wanted & set(types_of(asked)) if wanted else set(types_of(asked))
    return sorted(wanted) if wanted and wanted <= set(RARE_TYPES) else None


def _of_connection(session: Session, connection_id: str) -> list[ColumnElement[bool]]:
    """Conditions for events of connections with this id of Nango's, known and unknown ones, each with an index."""
    known = select(Connection.id).where(Connection.connection_id == connection_id).limit(MOST_NAMESAKES)
    unknown = Event.connection_ref.is_(None) & (Event.connection_id == connection_id)
    return [*(Event.connection_ref == ref for ref in session.scalars(known)), unknown]


def _concerns(team: str) -> ColumnElement[bool]:
    """A condition for events that became a job of this team."""
    return exists().where(Job.event_id == Event.id, Job.team == team)


def page(statement: Select[Any], key: Any, filters: ListFilters) -> Select[Any]:
    if filters.before is not None:
        statement = statement.where(key < filters.before)
    if filters.since is not None:
        statement = statement.where(key >= first_id(filters.since))
    if filters.until is not None:
        statement = statement.where(key < first_id(filters.until))
    return statement.order_by(key.desc()).limit(filters.limit)


def _rows(session: Session, shown: Callable[[Any], dict[str, Any]], statement: Select[Any]) -> list[dict[str, Any]]:
    return [shown(row) for row in session.scalars(statement)]


def _place(filters: ListFilters, *, indexed: bool) -> Place:
    """indexed: an index has what is asked for."""
    bounds = [filters.before, first_id(filters.until) if filters.until is not None else None]
    return Place(
        before=min((each for each in bounds if each is not None), default=None),
        after=first_id(filters.since) if filters.since is not None else None,
        limit=filters.limit,
        search=None if indexed else filters.search,
    )


def _recurrences(session: Session, event: Event) -> int:
    """The count of events that tell the same failure again, up to MOST_RECURRENCES."""
    if event.type != EventType.CONNECTION_REFRESH_FAILED or event.connection_ref is None:
        return 0
    later = (Event.connection_ref == event.connection_ref, Event.id > event.id, Event.recurrence_of == event.id)
    found = select(Event.id).where(*later).limit(MOST_RECURRENCES)
    return session.scalar(select(func.count()).select_from(found.subquery())) or 0


def _previous(session: Session, event: Event, team: str | None) -> str | None:
    """The id of the event before it about the same connection; None without one. team: as of `event`."""
    if event.connection_ref is None:
        return None
    mine = [_concerns(team)] if team is not None else []
    earlier = select(Event.id).where(Event.connection_ref == event.connection_ref, Event.id < event.id, *mine)
    found = session.scalar(earlier.order_by(Event.id.desc()).limit(1))
    return show(EVENT, found) if found else None
