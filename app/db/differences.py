"""Statements on differences of reconciliations, and on the stored connections that they compare."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, delete, exists, func, select, text
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Difference, Event
from app.domain.event import EventType
from app.domain.reconciling import RecordedConnection
from app.domain.states import ConnectionStatus, EventState
from app.ids import new_id

ConnectionName = tuple[str, str]  # integration, connection id, within an environment

_connections: Final = bulk.table(Connection)
_differences: Final = bulk.table(Difference)
_events: Final = bulk.table(Event)
_key: Final = (_differences.c.environment, _differences.c.integration, _differences.c.connection_id)
_open: Final = text("differences.event_id IS NULL")  # a literal, so that the planner uses the partial indexes


@dataclass(frozen=True, slots=True)
class Sighting:
    """A difference to store at its first check. since: Nango's `created`, of unknown connections."""

    key: ConnectionName
    type: EventType
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenDifference:
    """A difference without an event."""

    id: UUID
    integration: str
    connection_id: str
    type: str

    @property
    def key(self) -> ConnectionName:
        return self.integration, self.connection_id


@dataclass(frozen=True, slots=True)
class FinishedDifference:
    """A difference whose event is processed, failed, or was pruned (`state` None)."""

    id: UUID
    type: str
    since: datetime | None
    state: str | None
    processed_at: datetime | None


# Stored connections


def span(
    session: Session, environment: str, *, least: int | None, below: int | None, limit: int
) -> list[RecordedConnection]:
    """Connections that are not deleted, with a Nango id in [least, below), highest first."""
    statement = _recorded(environment).where(_connections.c.nango_id.is_not(None), _living())
    if least is not None:
        statement = statement.where(_connections.c.nango_id >= least)
    if below is not None:
        statement = statement.where(_connections.c.nango_id < below)
    return [
        RecordedConnection(*row)
        for row in session.execute(statement.order_by(_connections.c.nango_id.desc()).limit(limit))
    ]


def recorded(
    session: Session, environment: str, keys: Collection[ConnectionName]
) -> dict[ConnectionName, RecordedConnection]:
    """The stored ones of these connections, deleted ones included, by name."""
    if not keys:
        return {}
    columns = (_connections.c.environment, _connections.c.integration, _connections.c.connection_id)
    chosen = _recorded(environment).where(bulk.among(bulk.dialect(session), *columns))
    connections = [
        RecordedConnection(*row) for row in session.execute(chosen, bulk.keys((environment, *key) for key in keys))
    ]
    return {connection.key: connection for connection in connections}


def without_generation(
    session: Session, environment: str, *, after: UUID | None, limit: int
) -> list[tuple[UUID, RecordedConnection]]:
    """Connections without a Nango id that are not deleted and have no difference, with their own id, ordered by it."""
    named = exists().where(
        _differences.c.environment == _connections.c.environment,
        _differences.c.integration == _connections.c.integration,
        _differences.c.connection_id == _connections.c.connection_id,
    )
    statement = select(_connections.c.id, *bulk.columns(Connection, RecordedConnection)).where(
        _connections.c.environment == environment, _connections.c.nango_id.is_(None), _living(), ~named
    )
    if after is not None:
        statement = statement.where(_connections.c.id > after)
    rows = session.execute(statement.order_by(_connections.c.id).limit(limit))
    return [(row[0], RecordedConnection(*row[1:])) for row in rows]


# Differences


def add(session: Session, environment: str, sightings: Iterable[Sighting], *, now: datetime) -> int:
    """Add differences; stored ones stay unchanged. Returns the count of new rows."""
    rows = [
        {
            "id": new_id(),
            "environment": environment,
            "integration": sighting.key[0],
            "connection_id": sighting.key[1],
            "type": str(sighting.type),
            "first_seen_at": now,
            "since": sighting.since,
        }
        for sighting in sightings
    ]
    return bulk.insert(session, Difference, rows, skip_existing=True)


def among(session: Session, environment: str, keys: Collection[ConnectionName]) -> list[OpenDifference]:
    """The open differences of these connections."""
    if not keys:
        return []
    chosen = _open_differences().where(bulk.among(bulk.dialect(session), *_key))
    return [OpenDifference(*row) for row in session.execute(chosen, bulk.keys((environment, *key) for key in keys))]


def oldest(session: Session, environment: str, *, limit: int) -> list[OpenDifference]:
    """Up to `limit` open differences, oldest first."""
    chosen = (
        _open_differences().where(_differences.c.environment == environment).order_by(_differences.c.id).limit(limit)
    )
    return [OpenDifference(*row) for row in session.execute(chosen)]


def count_open(session: Session, environment: str) -> Counter[str]:
    """Counts of open differences by type."""
    counting = (
        select(_differences.c.type, func.count())
        .where(_differences.c.environment == environment, _open)
        .group_by(_differences.c.type)
    )
    return Counter({kind: count for kind, count in session.execute(counting)})  # noqa: C416 - rows are no pairs to mypy


def become_events(session: Session, events: Mapping[UUID, UUID]) -> None:
    """Record the event of each difference: event ids by difference id."""
    rows = [{"id": difference_id, "event_id": event_id} for difference_id, event_id in events.items()]
    bulk.update(session, Difference, rows)


def drop(session: Session, ids: Collection[UUID]) -> None:
    """Delete differences by id."""
    if ids:
        session.execute(
            delete(_differences).where(bulk.among(bulk.dialect(session), _differences.c.id)), bulk.keys(ids)
        )


def drop_absences(session: Session, environment: str, shown: Collection[ConnectionName]) -> None:
    """Delete the open absences of connections that Nango's list shows."""
    statement = delete(_differences).where(
        bulk.among(bulk.dialect(session), *_key), _differences.c.type == EventType.CONNECTION_DELETED, _open
    )
    session.execute(statement, bulk.keys((environment, *key) for key in shown))


def drop_open(session: Session, environment: str, *, absences: bool, others: bool, limit: int) -> int:
    """Delete up to `limit` open differences: absences, others, or both. Returns their count."""
    is_absence = _differences.c.type == EventType.CONNECTION_DELETED
    chosen = select(_differences.c.id).where(_differences.c.environment == environment, _open)
    if not (absences and others):
        chosen = chosen.where(is_absence if absences else ~is_absence)
    ids = session.scalars(chosen.limit(limit)).all()
    drop(session, ids)
    return len(ids)


def finished(session: Session, environment: str, *, limit: int) -> list[FinishedDifference]:
    """Differences whose event is processed, failed or pruned, up to `limit`."""
    statement = (
        select(_differences.c.id, _differences.c.type, _differences.c.since, _events.c.state, _events.c.processed_at)
        .outerjoin(_events, _events.c.id == _differences.c.event_id)
        .where(_differences.c.environment == environment, text("differences.event_id IS NOT NULL"))
        .where(func.coalesce(_events.c.state, "") != EventState.RECEIVED)
        .limit(limit)
    )
    return [FinishedDifference(*row) for row in session.execute(statement)]


def count_waiting(session: Session, environment: str) -> int:
    """The count of differences with an event that is not counted in the report yet."""
    with_event = select(func.count()).where(
        _differences.c.environment == environment, text("differences.event_id IS NOT NULL")
    )
    return session.scalar(with_event.select_from(_differences)) or 0


def _recorded(environment: str) -> Select[Any]:
    return select(*bulk.columns(Connection, RecordedConnection)).where(_connections.c.environment == environment)


def _living() -> Any:
    return text(f"connections.status <> '{ConnectionStatus.DELETED}'")


def _open_differences() -> Select[Any]:
    columns: Sequence[Any] = bulk.columns(Difference, OpenDifference)
    return select(*columns).where(_open)
