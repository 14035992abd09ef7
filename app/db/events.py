"""Statements on events and on the duplicate window of deliveries."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bounded_reads, bulk, claims, documents
from app.db.models import Delivery, Event, Job
from app.domain.states import EventState, Origin
from app.ids import first_id, new_id

INLINE: Final = 64 * 1024  # bytes: larger bodies are not part of a claim

_events: Final = bulk.table(Event)


class ClaimedEvent(Struct, frozen=True):
    """A claimed event. attempts: number of this claim.

    size: of the body, in bytes; a body of more than INLINE is None here, and read by `bodies`.
    """

    id: UUID
    environment: str
    origin: str
    attempts: int
    looks: int
    duplicates: int
    last_seen_at: datetime
    size: int
    body: bytes | None


class LockedEvent(Struct, frozen=True):
    """An event's row, locked to apply the event."""

    id: UUID
    environment: str
    origin: str
    state: str
    received_at: datetime
    attempts: int
    duplicates: int
    looks: int
    type: str | None
    route_set: int | None


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


def claim(
    session: Session,
    ids: Collection[UUID],
    *,
    limit: int,
    now: datetime,
    lease: timedelta,
    possibly_poison: bool = False,
) -> list[ClaimedEvent]:
    """Claim up to `limit` due events, hinted ids first. Each gets a lease and counts an attempt.

    possibly_poison: only events whose last claim had no result, or only the others.
    """
    statement = partial(_claiming, possibly_poison=possibly_poison)
    taken = claims.take(session, statement, ClaimedEvent, ids, limit=limit, now=now, lease=lease)
    return sorted(taken, key=lambda event: event.id.int)  # UUIDs compare in Python


@cache
def _claiming(dialect: str, *, possibly_poison: bool, hinted: bool = False) -> ReturningUpdate[Any]:
    due = (
        select(_events.c.id)
        # Literals, not parameters: else the planner cannot use the partial indexes.
        .where(text("state = 'received'"), text("attempts > 0" if possibly_poison else "attempts = 0"))
        .where(_events.c.next_at <= bindparam("now"))
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )
    if hinted:
        chosen = due.where(bulk.among(dialect, _events.c.id)).order_by(_events.c.id).cte("chosen")
    else:
        chosen = due.order_by(_events.c.next_at).cte("chosen")
    return (
        update(_events)
        .where(_events.c.id == chosen.c.id)
        .values(attempts=_events.c.attempts + 1, next_at=bindparam("until"))
        .returning(*_claimed_columns())
    )


def _claimed_columns() -> list[ColumnElement[Any]]:
    size = func.coalesce(func.length(_events.c.body), 0)
    made: dict[str, ColumnElement[Any]] = {"size": size, "body": case((size <= INLINE, _events.c.body))}
    return [made[name] if name in made else _events.c[name] for name in ClaimedEvent.__struct_fields__]


def bodies(session: Session, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Bodies by event id, without events that have none."""
    chosen = select(_events.c.id, _events.c.body).where(bulk.among(bulk.dialect(session), _events.c.id))
    return {event_id: body for event_id, body in session.execute(chosen, bulk.keys(ids)) if body is not None}


def release(session: Session, ids: Collection[UUID], *, now: datetime) -> None:
    """Return events that this transaction claimed, as if they had not been claimed."""
    if ids:
        mine = bulk.among(bulk.dialect(session), _events.c.id)
        given_back = update(_events).where(mine).values(attempts=_events.c.attempts - 1, next_at=bindparam("now"))
        session.execute(given_back, {**bulk.keys(ids), "now": now})


def lock(session: Session, ids: Collection[UUID]) -> list[LockedEvent]:
    """Lock events by id, oldest first. Returns those that exist."""
    return bulk.records(session, LockedEvent, _locking(bulk.dialect(session)), bulk.keys(ids))


@cache
def _locking(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Event, LockedEvent)).where(bulk.among(dialect, _events.c.id))
    return chosen.order_by(_events.c.id).with_for_update()


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


def routed(session: Session, *, since: UUID, before: UUID | None, limit: int) -> list[RoutedEvent]:
    """Routed events with ids in [since, before), newest first: `limit` at most, and as many as fit into one read."""
    chosen = select(*documents.COLUMNS).select_from(documents.SOURCE).where(_events.c.id >= since, documents.EXISTS)
    if before is not None:
        chosen = chosen.where(_events.c.id < before)
    rows = bounded_reads.rows(session, chosen.order_by(_events.c.id.desc()).limit(limit), size=lambda row: len(row[1]))
    read = bounded_reads.reader(session, _events.c.document)
    found = (documents.FoundDocument(*row) for row in rows)
    return [RoutedEvent(row.id, read(row.text), row.received_at) for row in found]


def replace_bodies(session: Session, bodies: Mapping[UUID, bytes]) -> None:
    """Replace stored bodies, by event id."""
    for event_id, body in bodies.items():
        session.execute(update(_events).where(_events.c.id == event_id).values(body=body))


def give_up(session: Session, ids: Collection[UUID], *, problem: str, now: datetime) -> None:
    """Mark events as failed that were claimed too often without a result."""
    failed = {"state": EventState.FAILED, "failure": "crashed", "problem": problem, "processed_at": now}
    bulk.update(session, Event, [{"id": event_id, **failed} for event_id in ids])


def fail(session: Session, event_id: UUID, *, attempts: int, kind: str, problem: str, now: datetime) -> str | None:
    """Mark an event as failed, if this claim (`attempts`) still holds it. Returns its type, or None if not."""
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


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """The count of due events, `at_most` so that a backlog costs no full scan."""
    due = select(Event.id).where(Event.state == EventState.RECEIVED, Event.next_at <= now).limit(at_most)
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0


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
