"""Statements on events and on the duplicate window of deliveries."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.db import bounded_reads, bulk, documents
from app.db.models import Delivery, Event, Job
from app.domain.states import EventState, Origin
from app.ids import first_id, new_id

_events: Final = bulk.table(Event)
_jobs: Final = bulk.table(Job)


def get(session: Session, event_id: UUID) -> Event | None:
    """The event of this id, not locked."""
    return session.get(Event, event_id)


def insert_routed(session: Session, events: Sequence[bulk.Row], jobs: Sequence[bulk.Row]) -> None:
    """Add processed events, then jobs, which refer to events."""
    bulk.insert(session, Event, events)
    bulk.insert(session, Job, jobs)


def change(session: Session, changes: Sequence[bulk.Row]) -> None:
    """Update the given columns of events, by `id`."""
    bulk.update(session, Event, changes)


def insert_own(
    session: Session,
    bodies: Sequence[bytes],
    *,
    environment: str,
    origin: Origin,
    now: datetime,
    connection_ref: UUID | None = None,
) -> list[UUID]:
    """Add Waylink's own events, received and due. Returns their ids, in order.

    bodies: as written by `write_own`. connection_ref: the connection of all of them; None: found by processing.
    """
    is_sqlite = bulk.dialect(session) == "sqlite"
    rows: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "environment": environment,
            "origin": origin,
            "state": EventState.RECEIVED,
            "received_at": now,
            "last_seen_at": now,
            "duplicates": 0,
            "next_at": now,
            "attempts": 0,
            "looks": 0,
            "connection_ref": connection_ref,
            # PostgreSQL gets rows as JSON, with bytes as text in its hex format.
            "body": body if is_sqlite else f"\\x{body.hex()}",
        }
        for body in bodies
    ]
    bulk.insert(session, Event, rows)
    return [row["id"] for row in rows]


def own_waiting(session: Session, connection_ref: UUID, *, origin: Origin, since: datetime) -> list[bytes]:
    """Bodies of one connection's unprocessed events of this origin, stored since then, newest first."""
    waiting = select(Event.body).where(
        Event.connection_ref == connection_ref,
        Event.id >= first_id(since),
        Event.state == EventState.RECEIVED,
        Event.origin == origin,
    )
    return [body for body in session.scalars(waiting.order_by(Event.id.desc())) if body is not None]


def own_since(
    session: Session, connection_refs: Collection[UUID], *, origin: Origin, since: datetime
) -> list[tuple[UUID, bytes]]:
    """(connection_ref, body) of these connections' events of this origin, stored since then, oldest first."""
    stored = select(_events.c.connection_ref, _events.c.body).where(
        bulk.among(bulk.dialect(session), _events.c.connection_ref),
        _events.c.id >= first_id(since),
        _events.c.origin == origin,
        _events.c.body.is_not(None),
    )
    rows = session.execute(stored.order_by(_events.c.id), bulk.keys(connection_refs))
    return [(connection_ref, body) for connection_ref, body in rows]


@dataclass(frozen=True, slots=True)
class TypedEvent:
    """A processed event's type and environment; an empty environment stands for none."""

    id: UUID
    type: str | None
    environment: str


def typed(session: Session, ids: Collection[UUID]) -> dict[UUID, TypedEvent]:
    """The existing ones of these events, by id."""
    chosen = select(*bulk.columns(Event, TypedEvent)).where(bulk.among(bulk.dialect(session), _events.c.id))
    return {row.id: TypedEvent(*row) for row in session.execute(chosen, bulk.keys(ids))}


@dataclass(frozen=True, slots=True)
class RoutedEvent:
    """A routed event. document: None where the stored one cannot be read."""

    id: UUID
    document: dict[str, Any] | None
    received_at: datetime


def routed(
    session: Session, *, since: UUID, before: UUID | None, limit: int, team: str | None = None
) -> list[RoutedEvent]:
    """Routed events with ids in [since, before), newest first: `limit` at most, and as many as fit into one read.

    team: those alone that became jobs of this team.
    """
    chosen = select(*documents.COLUMNS).select_from(documents.SOURCE).where(_events.c.id >= since, documents.EXISTS)
    if before is not None:
        chosen = chosen.where(_events.c.id < before)
    if team is not None:
        chosen = chosen.where(exists().where(_jobs.c.event_id == _events.c.id, _jobs.c.team == team))
    rows = bounded_reads.rows(session, chosen.order_by(_events.c.id.desc()).limit(limit), size=lambda row: len(row[1]))
    read = bounded_reads.reader(session, _events.c.document)
    found = (documents.FoundDocument(*row) for row in rows)
    return [RoutedEvent(row.id, read(row.text), row.received_at) for row in found]


def replace_bodies(session: Session, bodies: Mapping[UUID, bytes]) -> None:
    """Replace stored bodies, by event id."""
    for event_id, body in bodies.items():
        session.execute(update(_events).where(_events.c.id == event_id).values(body=body))


def fail(session: Session, event_id: UUID, *, attempts: int, kind: str, problem: str, now: datetime) -> str | None:
    """Mark a received event as failed, if it is as it was claimed. Returns its type, or None if not."""
    stored_kind: str | None = session.scalar(
        update(_events)
        .where(_events.c.id == event_id, _events.c.state == EventState.RECEIVED, _events.c.attempts == attempts)
        .values(
            state=EventState.FAILED,
            failure="error",
            problem=problem,
            type=func.coalesce(_events.c.type, kind),
            processed_at=now,
        )
        .returning(_events.c.type)
    )
    return stored_kind


def prune_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` ended duplicate windows. Returns their count."""
    old = select(Delivery.environment, Delivery.fingerprint).where(Delivery.first_at < before).limit(limit)
    rows = session.execute(old).all()
    if rows:
        keys = tuple_(Delivery.environment, Delivery.fingerprint)
        # The time is compared again: a delivery may have begun a new window meanwhile.
        session.execute(
            delete(Delivery)
            .where(keys.in_([tuple(row) for row in rows]), Delivery.first_at < before)
            .execution_options(synchronize_session=False)
        )
    return len(rows)
