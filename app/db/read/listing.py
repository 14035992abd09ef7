"""Reading for people: events, jobs and refreshes as plain objects, newest first, filtered and bounded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import Session

from app.db import decisions
from app.db.models import Attempt, Connection, Event, Job, Refresh
from app.domain.states import UNFINISHED_JOBS
from app.errors import NotFound
from app.ids import CONNECTION, EVENT, JOB, REFRESH, show


@dataclass(frozen=True, slots=True)
class Filters:
    """Exact matches; None is any. `before` continues a listing after the row with that id."""

    limit: int = 50
    before: UUID | None = None
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
    duplicates: bool = False  # connections that are one of several of their owner's
    tags: Mapping[str, str] = field(default_factory=dict)  # each of them, with exactly this value
    user: str | None = None  # the owner's external id
    organization: str | None = None


def events(session: Session, filters: Filters) -> list[dict[str, Any]]:
    statement = equal(
        select(Event),
        (Event.state, filters.state),
        (Event.type, filters.type),
        (Event.origin, filters.origin),
        (Event.environment, filters.environment),
        (Event.integration, filters.integration),
        (Event.connection_id, filters.connection_id),
    )
    if filters.team is not None:
        statement = statement.where(_concerns(filters.team))
    return [_event(one) for one in session.scalars(page(statement, Event.id, filters))]


def event(session: Session, event_id: UUID, *, team: str | None = None) -> dict[str, Any]:
    """One event with its document, decisions and jobs. Raises NotFound.

    team: only what concerns this team, and no raw body; an event without a job of its is not found.
    """
    mine = [_concerns(team)] if team is not None else []
    one = session.scalar(select(Event).where(Event.id == event_id, *mine))
    if one is None:
        raise NotFound("event", show(EVENT, event_id))
    found_jobs = jobs(session, Filters(limit=1000, event_id=event_id, team=team))
    return _event(one) | {
        "last_seen_at": shown_time(one.last_seen_at),
        "processed_at": shown_time(one.processed_at),
        "next_look_at": shown_time(one.next_at) if one.state == "received" else None,
        "attempts": one.attempts,
        "looks": one.looks,
        "body": one.body.decode("utf-8", "replace") if one.body is not None and team is None else None,
        "document": one.document,
        "route_set": one.route_set,
        "decisions": [asdict(each) for each in decisions.of_event(session, event_id, team=team)],
        "jobs": found_jobs,
    }


def jobs(session: Session, filters: Filters) -> list[dict[str, Any]]:
    statement = equal(
        select(Job),
        (Job.state, filters.state),
        (Job.team, filters.team),
        (Job.destination, filters.destination),
        (Job.route, filters.route),
        (Job.name, filters.name),
        (Job.fault, filters.fault),
        (Job.event_id, filters.event_id),
    )
    return [_job(one) for one in session.scalars(page(statement, Job.id, filters))]


def refreshes(session: Session, filters: Filters) -> list[dict[str, Any]]:
    """Planned and past refreshes, those that were made last first. `state`: `open` or `finished`."""
    statement: Any = select(Refresh, Connection).join(Connection, Connection.id == Refresh.connection_ref)
    statement = equal(
        statement,
        (Connection.environment, filters.environment),
        (Connection.integration, filters.integration),
        (Connection.connection_id, filters.connection_id),
    )
    if filters.state is not None:
        over = Refresh.finished_at.is_not(None)
        statement = statement.where(over if filters.state == "finished" else ~over)
    return [_refresh(*row) for row in session.execute(page(statement, Refresh.id, filters))]


def job(session: Session, job_id: UUID, *, team: str | None = None) -> dict[str, Any]:
    """One job with its attempts. Raises NotFound, also for one of another team than `team`."""
    one = session.get(Job, job_id)
    if one is None or team not in {None, one.team}:
        raise NotFound("job", show(JOB, job_id))
    attempts = session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number))
    return _job(one) | {
        "attempt_log": [
            {
                "number": each.number,
                "started_at": shown_time(each.started_at),
                "latency_ms": round(each.latency_ms, 1),
                "outcome": each.outcome,
                "status": each.status,
                "error": each.error,
                "response_excerpt": each.response_excerpt,
            }
            for each in attempts
        ]
    }


def equal(statement: Select[Any], *pairs: tuple[Any, Any]) -> Select[Any]:
    for column, value in pairs:
        if value is not None:
            statement = statement.where(column == value)
    return statement


def _concerns(team: str) -> ColumnElement[bool]:
    """An event that became a job of this team."""
    return exists().where(Job.event_id == Event.id, Job.team == team)


def page(statement: Select[Any], key: Any, filters: Filters) -> Select[Any]:
    if filters.before is not None:
        statement = statement.where(key < filters.before)
    return statement.order_by(key.desc()).limit(filters.limit)


def _event(one: Event) -> dict[str, Any]:
    return {
        "id": show(EVENT, one.id),
        "type": one.type,
        "origin": one.origin,
        "environment": one.environment or None,
        "integration": one.integration,
        "connection_id": one.connection_id,
        "state": one.state,
        "confirmed": one.confirmed,
        "duplicates": one.duplicates,
        "tags": one.tags,
        "failure": one.failure,
        "problem": one.problem,
        "received_at": shown_time(one.received_at),
    }


def _job(one: Job) -> dict[str, Any]:
    return {
        "id": show(JOB, one.id),
        "name": one.name,
        "team": one.team,
        "destination": one.destination,
        "state": one.state,
        "attempts": one.attempts,
        "event_id": show(EVENT, one.event_id),
        "route": one.route,
        "route_version": one.route_version,
        "backfill": one.backfill,
        "blocked_by": one.blocked_by,
        "fault": one.fault,
        "problem": one.problem,
        "next_at": shown_time(one.next_at) if one.state in UNFINISHED_JOBS else None,
        "created_at": shown_time(one.created_at),
        "finished_at": shown_time(one.finished_at),
    }


def _refresh(one: Refresh, connection: Connection) -> dict[str, Any]:
    return {
        "id": show(REFRESH, one.id),
        "connection": show(CONNECTION, connection.id),
        "environment": connection.environment,
        "integration": connection.integration,
        "connection_id": connection.connection_id,
        "refresh_at": shown_time(one.refresh_at),
        "forced": one.forced,
        "reason": one.reason,
        "requested_by": one.requested_by,
        "attempts": one.attempts,
        "finished_at": shown_time(one.finished_at),
        "outcome": one.outcome,
        "error": one.error,
        "previous_expires_at": shown_time(one.previous_expires_at),
        "expires_at": shown_time(one.expires_at),
    }


def shown_time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
