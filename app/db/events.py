"""Statements on events and on the duplicate window."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bounded, bulk, claims
from app.db.models import Decision, Delivery, Event, Job
from app.domain.states import EventState, Origin
from app.ids import first_id, new_id

INLINE: Final = 64 * 1024  # bytes of a body that comes with its claim

_events: Final = bulk.table(Event)


@dataclass(frozen=True, slots=True)
class ClaimedEvent:
    """What a worker gets to work on. `attempts` is the claim's number.

    size: of the body, in bytes; one of more than INLINE is not here yet, but read by `bodies`.
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


@dataclass(frozen=True, slots=True)
class LockedEvent:
    """What applying an event has to know of its row."""

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


def insert_routed(
    session: Session, events: Sequence[bulk.Row], decisions: Sequence[bulk.Row], jobs: Sequence[bulk.Row]
) -> None:
    """Add events that are processed, and what routes made of events: decisions and jobs, which refer to them."""
    bulk.insert(session, Event, events)
    bulk.insert(session, Decision, decisions)
    bulk.insert(session, Job, jobs)


def change(session: Session, changes: Sequence[bulk.Row]) -> None:
    """Change events, each by its `id`."""
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
    """Add events of our own, received and due; their ids, in order. `bodies` are in the form of `write_own`.

    connection_ref: the one connection that all are about; else it is found when they are processed.
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
            # PostgreSQL takes rows as JSON, in which bytes are text in its own hex form.
            "body": body if is_sqlite else f"\\x{body.hex()}",
        }
        for body in bodies
    ]
    bulk.insert(session, Event, rows)
    return [row["id"] for row in rows]


def own_waiting(session: Session, connection_ref: UUID, *, origin: Origin, since: datetime) -> list[bytes]:
    """Bodies of our own events of one connection that were stored since then and are not settled, the newest first."""
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
    """Our own events of these connections that were stored since then: connection and body, the oldest first."""
    stored = select(_events.c.connection_ref, _events.c.body).where(
        bulk.among(bulk.dialect(session), _events.c.connection_ref),
        _events.c.id >= first_id(since),
        _events.c.origin == origin,
        _events.c.body.is_not(None),
    )
    rows = session.execute(stored.order_by(_events.c.id), bulk.keys(connection_refs))
    return [(connection_ref, body) for connection_ref, body in rows]


def claim(
    session: Session, ids: Collection[UUID], *, limit: int, now: datetime, lease: timedelta, suspects: bool = False
) -> list[ClaimedEvent]:
    """Take up to `limit` due events: the hinted ones, then any others. Each is counted and leased.

    `suspects` are those whose last claim brought no result; they are kept apart from the others.
    """
    statement = partial(_claiming, suspects=suspects)
    taken = claims.take(session, statement, ClaimedEvent, ids, limit=limit, now=now, lease=lease)
    return sorted(taken, key=lambda event: event.id)


@cache
def _claiming(dialect: str, *, suspects: bool, hinted: bool = False) -> ReturningUpdate[Any]:
    due = (
        select(_events.c.id)
        # Spelled out, not parameters: so that the partial indexes are seen to hold these rows.
        .where(text("state = 'received'"), text("attempts > 0" if suspects else "attempts = 0"))
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
    return [made[one.name] if one.name in made else _events.c[one.name] for one in fields(ClaimedEvent)]


def bodies(session: Session, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """The bodies of these events."""
    chosen = select(_events.c.id, _events.c.body).where(bulk.among(bulk.dialect(session), _events.c.id))
    return {event_id: body for event_id, body in session.execute(chosen, bulk.keys(ids)) if body is not None}


def release(session: Session, ids: Collection[UUID], *, now: datetime) -> None:
    """Give back events of this transaction's claim, as if they had not been claimed."""
    if ids:
        mine = bulk.among(bulk.dialect(session), _events.c.id)
        given_back = update(_events).where(mine).values(attempts=_events.c.attempts - 1, next_at=bindparam("now"))
        session.execute(given_back, {**bulk.keys(ids), "now": now})


def lock(session: Session, ids: Collection[UUID]) -> list[LockedEvent]:
    """The events with these ids, locked, oldest first."""
    return [LockedEvent(*row) for row in session.execute(_locking(bulk.dialect(session)), bulk.keys(ids))]


@cache
def _locking(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Event, LockedEvent)).where(bulk.among(dialect, _events.c.id))
    return chosen.order_by(_events.c.id).with_for_update()


@dataclass(frozen=True, slots=True)
class TypedEvent:
    """What a processed event is, and where it belongs; an empty environment is none."""

    id: UUID
    type: str | None
    environment: str


def typed(session: Session, ids: Collection[UUID]) -> dict[UUID, TypedEvent]:
    """Events by their ids."""
    chosen = select(*bulk.columns(Event, TypedEvent)).where(bulk.among(bulk.dialect(session), _events.c.id))
    return {row.id: TypedEvent(*row) for row in session.execute(chosen, bulk.keys(ids))}


@dataclass(frozen=True, slots=True)
class JudgedEvent:
    """An event as it was judged; document: None where what is stored cannot be read."""

    id: UUID
    document: dict[str, Any] | None
    received_at: datetime


def judged(session: Session, *, since: UUID, before: UUID | None, limit: int) -> list[JudgedEvent]:
    """Events with a document, newest first, by their ids, which are in the order of time: at most `limit`, and as many
    as fit into one read. None of them locked.
    """
    columns = _events.c.id, cast(_events.c.document, Text), _events.c.received_at
    chosen = select(*columns).where(_events.c.id >= since, _events.c.document.is_not(None))
    if before is not None:
        chosen = chosen.where(_events.c.id < before)
    found = bounded.rows(session, chosen.order_by(_events.c.id.desc()).limit(limit), size=lambda row: len(row[1]))
    read = bounded.reader(session, _events.c.document)
    return [JudgedEvent(event_id, read(text), at) for event_id, text, at in found]


def replace_bodies(session: Session, bodies: Mapping[UUID, bytes]) -> None:
    """Keep these bodies instead of what came."""
    for event_id, body in bodies.items():
        session.execute(update(_events).where(_events.c.id == event_id).values(body=body))


def give_up(session: Session, ids: Collection[UUID], *, problem: str, now: datetime) -> None:
    """These were claimed too often without a result."""
    failed = {"state": EventState.FAILED, "failure": "crashed", "problem": problem, "processed_at": now}
    bulk.update(session, Event, [{"id": one, **failed} for one in ids])


def fail(session: Session, event_id: UUID, *, attempts: int, kind: str, problem: str, now: datetime) -> str | None:
    """Give up an event that could not be applied, while it is still ours by `attempts`. Returns its type."""
    kind_now: str | None = session.scalar(
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
    return kind_now


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """How many events are due, counted up to a bound so that a backlog costs no scan."""
    due = select(Event.id).where(Event.state == EventState.RECEIVED, Event.next_at <= now).limit(at_most)
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0


def prune_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Forget windows that ended, at most `limit` of them."""
    old = select(Delivery.environment, Delivery.fingerprint).where(Delivery.first_at < before).limit(limit)
    rows = session.execute(old).all()
    if rows:
        keys = tuple_(Delivery.environment, Delivery.fingerprint)
        # The time again: a delivery may have begun a new window meanwhile.
        session.execute(
            delete(Delivery)
            .where(keys.in_([tuple(row) for row in rows]), Delivery.first_at < before)
            .execution_options(synchronize_session=False)
        )
    return len(rows)
