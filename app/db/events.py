"""Statements on events and on the duplicate window."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Table, case, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.models import Delivery, Event
from app.domain.states import EventState


def insert_for(session: Session, model: type[Any]) -> Any:
    """The dialect's INSERT, which knows ON CONFLICT."""
    table: Table = model.__table__
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


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
        keys = tuple_(Delivery.environment, Delivery.fingerprint)
        # The time again: a delivery may have begun a new window meanwhile.
        session.execute(
            delete(Delivery)
            .where(keys.in_([tuple(row) for row in rows]), Delivery.first_at < before)
            .execution_options(synchronize_session=False)
        )
    return len(rows)
