"""Statements on events and on the duplicate window."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.models import Delivery, Event
from app.domain.states import EventState, Origin


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A verified request, ready to be stored. `event_id` is used if it turns out to be a new event."""

    event_id: UUID
    environment: str
    fingerprint: bytes
    body: bytes
    received_at: datetime


def insert_for(session: Session, model: type[Any]) -> Any:
    """The dialect's INSERT, which knows ON CONFLICT."""
    table: Table = model.__table__
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def store(session: Session, deliveries: Sequence[NewDelivery], *, window: timedelta, now: datetime) -> list[UUID]:
    """Store each delivery once; answer the event id of each, in order.

    The same keys must not occur twice in `deliveries`: PostgreSQL refuses that in one upsert (21000). They are taken
    in sorted order, or two processes could deadlock. The database decides about duplicates, by the first receipt.
    """
    rows = sorted(deliveries, key=lambda one: (one.environment, one.fingerprint))
    statement = insert_for(session, Delivery).values(
        [
            {
                "environment": one.environment,
                "fingerprint": one.fingerprint,
                "event_id": one.event_id,
                "first_at": one.received_at,
            }
            for one in rows
        ]
    )
    in_window = Delivery.first_at > now - window
    statement = statement.on_conflict_do_update(
        index_elements=["environment", "fingerprint"],
        set_={
            "event_id": case((in_window, Delivery.event_id), else_=statement.excluded.event_id),
            "first_at": case((in_window, Delivery.first_at), else_=statement.excluded.first_at),
        },
    ).returning(Delivery.environment, Delivery.fingerprint, Delivery.event_id)
    known = {(environment, fingerprint): event_id for environment, fingerprint, event_id in session.execute(statement)}
    stored = [known[one.environment, one.fingerprint] for one in deliveries]
    fresh = [one for one, event_id in zip(deliveries, stored, strict=True) if one.event_id == event_id]
    if fresh:
        session.execute(insert_for(session, Event), [_new_row(one) for one in fresh])
    return stored


def count_duplicates(session: Session, seen: Sequence[tuple[UUID, int]], *, now: datetime) -> None:
    """Note repeated deliveries. A settled event becomes due again, so that its connection is looked at once more."""
    settled = Event.state != EventState.RECEIVED
    for event_id, times in sorted(seen):
        session.execute(
            update(Event)
            .where(Event.id == event_id)
            .values(
                duplicates=Event.duplicates + times,
                last_seen_at=now,
                state=EventState.RECEIVED,
                attempts=case((settled, 0), else_=Event.attempts),
                looks=case((settled, 0), else_=Event.looks),
                next_at=case((settled, now), else_=Event.next_at),
                failure=None,
            )
        )


def claim(
    session: Session, ids: Collection[UUID], *, limit: int, now: datetime, lease: timedelta, suspects: bool = False
) -> list[Event]:
    """Take up to `limit` due events: the hinted ones, then any others. Each is counted and leased.

    `suspects` are those whose last claim brought no result; they are kept apart from the others.
    """
    due = (
        select(Event)
        .where(Event.state == EventState.RECEIVED, Event.next_at <= now)
        .where(Event.attempts > 0 if suspects else Event.attempts == 0)
        .with_for_update(skip_locked=True)
    )
    taken = list(session.scalars(due.where(Event.id.in_(ids)).order_by(Event.id).limit(limit))) if ids else []
    if len(taken) < limit:
        others = due.where(Event.id.not_in([event.id for event in taken])) if taken else due
        taken += session.scalars(others.order_by(Event.next_at).limit(limit - len(taken)))
    if taken:
        session.execute(
            update(Event)
            .where(Event.id.in_([event.id for event in taken]))
            .values(attempts=Event.attempts + 1, next_at=now + lease)
            .execution_options(synchronize_session="evaluate")
        )
    return sorted(taken, key=lambda event: event.id)


def lock(session: Session, ids: Collection[UUID]) -> list[Event]:
    """The events with these ids, locked, oldest first."""
    statement = select(Event).where(Event.id.in_(ids)).order_by(Event.id).with_for_update()
    return list(session.scalars(statement.execution_options(populate_existing=True)))


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """How many events are due, counted up to a bound so that a backlog costs no scan."""
    due = select(Event.id).where(Event.state == EventState.RECEIVED, Event.next_at <= now).limit(at_most)
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0


def prune_deliveries(session: Session, *, before: datetime, limit: int) -> int:
    """Forget windows that ended, at most `limit` of them."""
    old = select(Delivery.environment, Delivery.fingerprint).where(Delivery.first_at < before).limit(limit)
    rows = session.execute(old).all()
    if rows:
        session.execute(
            delete(Delivery).where(
                or_(*((Delivery.environment == one) & (Delivery.fingerprint == two) for one, two in rows))
            )
        )
    return len(rows)


def _new_row(one: NewDelivery) -> dict[str, Any]:
    return {
        "id": one.event_id,
        "environment": one.environment,
        "origin": Origin.WEBHOOK,
        "state": EventState.RECEIVED,
        "received_at": one.received_at,
        "last_seen_at": one.received_at,
        "duplicates": 0,
        "body": one.body,
        "next_at": one.received_at,
        "attempts": 0,
        "looks": 0,
    }
