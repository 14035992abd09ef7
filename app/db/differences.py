"""Statements on what a reconciliation found, and on our side of the comparison."""

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
from app.domain.reconciling import Known
from app.domain.states import ConnectionStatus, EventState
from app.ids import new_id

ConnectionKey = tuple[str, str]  # integration, connection id; the environment is the run's

_connections: Final = bulk.table(Connection)
_differences: Final = bulk.table(Difference)
_events: Final = bulk.table(Event)
_key: Final = (_differences.c.environment, _differences.c.integration, _differences.c.connection_id)
_open: Final = text("differences.event_id IS NULL")  # spelled out, so that the partial indexes are seen to hold these


@dataclass(frozen=True, slots=True)
class Sighting:
    """A first sight of a difference."""

    key: ConnectionKey
    type: EventType
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenDifference:
    """One that has not become an event yet."""

    id: UUID
    integration: str
    connection_id: str
    type: str

    @property
    def key(self) -> ConnectionKey:
        return self.integration, self.connection_id


@dataclass(frozen=True, slots=True)
class Settled:
    """One whose event has come to an end, or is gone."""

    id: UUID
    type: str
    since: datetime | None
    state: str | None
    processed_at: datetime | None


# Our connections


def span(session: Session, environment: str, *, least: int | None, below: int | None, limit: int) -> list[Known]:
    """Our living connections whose Nango id is in [least, below), highest first."""
    statement = _known(environment).where(_connections.c.nango_id.is_not(None), _living())
    if least is not None:
        statement = statement.where(_connections.c.nango_id >= least)
    if below is not None:
        statement = statement.where(_connections.c.nango_id < below)
    return [Known(*row) for row in session.execute(statement.order_by(_connections.c.nango_id.desc()).limit(limit))]


def known(session: Session, environment: str, keys: Collection[ConnectionKey]) -> dict[ConnectionKey, Known]:
    """Ours of these, deleted ones too."""
    if not keys:
        return {}
    columns = (_connections.c.environment, _connections.c.integration, _connections.c.connection_id)
    chosen = _known(environment).where(bulk.among(bulk.dialect(session), *columns))
    found = [Known(*row) for row in session.execute(chosen, bulk.keys((environment, *key) for key in keys))]
    return {one.key: one for one in found}


def without_generation(
    session: Session, environment: str, *, after: UUID | None, limit: int
) -> list[tuple[UUID, Known]]:
    """Our living connections that only a webhook told of, and no difference names; in the order of their ids."""
    named = exists().where(
        _differences.c.environment == _connections.c.environment,
        _differences.c.integration == _connections.c.integration,
        _differences.c.connection_id == _connections.c.connection_id,
    )
    statement = select(_connections.c.id, *bulk.columns(Connection, Known)).where(
        _connections.c.environment == environment, _connections.c.nango_id.is_(None), _living(), ~named
    )
    if after is not None:
        statement = statement.where(_connections.c.id > after)
    rows = session.execute(statement.order_by(_connections.c.id).limit(limit))
    return [(row[0], Known(*row[1:])) for row in rows]


# What was found


def add(session: Session, environment: str, seen: Iterable[Sighting], *, now: datetime) -> int:
    """Note first sights; those that are noted already stay as they are. Returns how many were new."""
    rows = [
        {
            "id": new_id(),
            "environment": environment,
            "integration": one.key[0],
            "connection_id": one.key[1],
            "type": str(one.type),
            "first_seen_at": now,
            "since": one.since,
        }
        for one in seen
    ]
    return bulk.insert(session, Difference, rows, skip_existing=True)


def among(session: Session, environment: str, keys: Collection[ConnectionKey]) -> list[OpenDifference]:
    """What is open of these connections."""
    if not keys:
        return []
    chosen = _open_ones().where(bulk.among(bulk.dialect(session), *_key))
    return [OpenDifference(*row) for row in session.execute(chosen, bulk.keys((environment, *key) for key in keys))]


def oldest(session: Session, environment: str, *, limit: int) -> list[OpenDifference]:
    chosen = _open_ones().where(_differences.c.environment == environment).order_by(_differences.c.id).limit(limit)
    return [OpenDifference(*row) for row in session.execute(chosen)]


def count_open(session: Session, environment: str) -> Counter[str]:
    """How many are open, by type."""
    counting = (
        select(_differences.c.type, func.count())
        .where(_differences.c.environment == environment, _open)
        .group_by(_differences.c.type)
    )
    return Counter({kind: count for kind, count in session.execute(counting)})  # noqa: C416 - rows are no pairs to mypy


def become_events(session: Session, events: Mapping[UUID, UUID]) -> None:
    """Each of these differences is told by that event from now on."""
    bulk.update(session, Difference, [{"id": one, "event_id": event_id} for one, event_id in events.items()])


def drop(session: Session, ids: Collection[UUID]) -> None:
    if ids:
        session.execute(
            delete(_differences).where(bulk.among(bulk.dialect(session), _differences.c.id)), bulk.keys(ids)
        )


def drop_absences(session: Session, environment: str, shown: Collection[ConnectionKey]) -> None:
    """These are in Nango's list after all."""
    statement = delete(_differences).where(
        bulk.among(bulk.dialect(session), *_key), _differences.c.type == EventType.CONNECTION_DELETED, _open
    )
    session.execute(statement, bulk.keys((environment, *key) for key in shown))


def drop_open(session: Session, environment: str, *, absences: bool, others: bool, limit: int) -> int:
    """Forget open ones, at most `limit`; how many there were."""
    is_absence = _differences.c.type == EventType.CONNECTION_DELETED
    chosen = select(_differences.c.id).where(_differences.c.environment == environment, _open)
    if not (absences and others):
        chosen = chosen.where(is_absence if absences else ~is_absence)
    ids = session.scalars(chosen.limit(limit)).all()
    drop(session, ids)
    return len(ids)


def settled(session: Session, environment: str, *, limit: int) -> list[Settled]:
    """Those whose event is not waiting any more, or was pruned."""
    statement = (
        select(_differences.c.id, _differences.c.type, _differences.c.since, _events.c.state, _events.c.processed_at)
        .outerjoin(_events, _events.c.id == _differences.c.event_id)
        .where(_differences.c.environment == environment, text("differences.event_id IS NOT NULL"))
        .where(func.coalesce(_events.c.state, "") != EventState.RECEIVED)
        .limit(limit)
    )
    return [Settled(*row) for row in session.execute(statement)]


def count_waiting(session: Session, environment: str) -> int:
    """How many have an event that is not accounted for yet."""
    told = select(func.count()).where(
        _differences.c.environment == environment, text("differences.event_id IS NOT NULL")
    )
    return session.scalar(told.select_from(_differences)) or 0


def _known(environment: str) -> Select[Any]:
    return select(*bulk.columns(Connection, Known)).where(_connections.c.environment == environment)


def _living() -> Any:
    return text(f"connections.status <> '{ConnectionStatus.DELETED}'")


def _open_ones() -> Select[Any]:
    columns: Sequence[Any] = bulk.columns(Difference, OpenDifference)
    return select(*columns).where(_open)
