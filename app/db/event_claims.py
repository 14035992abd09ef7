"""Claims of events: a lease holds a batch for the worker that claimed it, and no other worker claims its events.

A claim writes one row, and no event. Transactions lock a lease before its events: else two could wait for each other.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
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
    insert,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningDelete

from app.db import bulk
from app.db.models import Event, EventLease
from app.domain.states import EventState
from app.ids import new_id

INLINE: Final = 16 * 1024  # bytes: larger bodies are not read with the claim; those of a whole batch are 8 MB at most
MOST_ENDED: Final = 20  # leases that one claim ends, so that it stays short; each worker has one
# A worker that stands still within a claim holds up all others, until PostgreSQL ends its session.
STILL: Final = "5s"

_events: Final = bulk.table(Event)
_leases: Final = bulk.table(EventLease)
_CLAIMS: Final = literal(0x7761796C696E6B05)
# A CASE, which PostgreSQL looks for in no index: it would read a whole backlog along that of received events.
_AS_CLAIMED: Final = "CASE events.state WHEN 'received' THEN events.attempts = 0 AND events.duplicates = 0 END"
_claiming: Final = select(
    func.set_config("idle_in_transaction_session_timeout", STILL, True),
    # A claim needs the beginning of the index over due events. By the statistics of a table that had none a moment
    # before, PostgreSQL would read and sort them all: 90 ms for 100,000 of them, instead of 2.
    func.set_config("enable_bitmapscan", "off", True),
    func.pg_advisory_xact_lock(_CLAIMS),
)


class ClaimedEvent(Struct, frozen=True):
    """A claimed event. attempts: earlier claims that brought no result.

    size: of the body, in bytes; a body of more than INLINE is None here, and read by `bodies`.
    """

    id: UUID
    environment: str
    origin: str
    received_at: datetime
    last_seen_at: datetime
    attempts: int
    duplicates: int
    looks: int
    type: str | None
    route_set: int | None
    size: int
    body: bytes | None
    traceparent: str | None = None

    @property
    def is_plain(self) -> bool:
        """It has had neither a duplicate nor a claim without a result."""
        return not self.attempts and not self.duplicates


class LockedEvent(Struct, frozen=True):
    """The columns of a claimed event that others may change. Its row is locked."""

    id: UUID
    state: str
    attempts: int
    duplicates: int


def begin(session: Session, *, now: datetime) -> None:
    """Begin a claim: wait for all others to end, then free the events of leases that have ended.

    Each of them that is still due counts an attempt.
    """
    if bulk.dialect(session) == "postgresql":
        session.execute(_claiming)
    ended = session.scalars(_ending(), {"now": now}).all()
    if ids := [event_id for event_ids in ended for event_id in event_ids or ()]:
        session.execute(_counting(bulk.dialect(session)), {**bulk.keys(ids), "now": now})


@cache
def _ending() -> ReturningDelete[Any]:
    over = select(_leases.c.id).where(_leases.c.until_at <= bindparam("now")).limit(MOST_ENDED)
    # The transaction that records a batch has locked its lease.
    over = over.with_for_update(skip_locked=True)
    return delete(_leases).where(_leases.c.id.in_(over)).returning(_leases.c.event_ids)


@cache
def _counting(dialect: str) -> Any:
    due = _events.c.state == EventState.RECEIVED, _events.c.next_at <= bindparam("now")
    chosen = select(_events.c.id).where(bulk.among(dialect, _events.c.id), *due)
    locked = chosen.order_by(_events.c.id).with_for_update().cte("chosen")
    return update(_events).where(_events.c.id == locked.c.id).values(attempts=_events.c.attempts + 1)


def due(session: Session, *, limit: int, now: datetime, possibly_poison: bool = False) -> list[ClaimedEvent]:
    """Up to `limit` due events without a lease, the longest due first.

    possibly_poison: only events whose last claim had no result, or only the others.
    """
    statement = _due(bulk.dialect(session), possibly_poison=possibly_poison)
    return bulk.records(session, ClaimedEvent, statement, {"now": now, "most": limit})


@cache
def _due(dialect: str, *, possibly_poison: bool) -> Select[Any]:
    return (
        select(*_claimed_columns())
        # Literals, not parameters: else the planner cannot use the partial indexes.
        .where(text("state = 'received'"), text("attempts > 0" if possibly_poison else "attempts = 0"))
        # The subquery is read once, into a hash table; NOT EXISTS was planned as a join of all due events.
        .where(_events.c.next_at <= bindparam("now"), _events.c.id.not_in(_leased(dialect)))
        .order_by(_events.c.next_at)
        .limit(bindparam("most"))
    )


def _claimed_columns() -> list[ColumnElement[Any]]:
    size = func.coalesce(func.length(_events.c.body), 0)
    made: dict[str, ColumnElement[Any]] = {"size": size, "body": case((size <= INLINE, _events.c.body))}
    return [made[name] if name in made else _events.c[name] for name in ClaimedEvent.__struct_fields__]


def free(session: Session, *, now: datetime) -> ColumnElement[bool]:
    """The condition that an event is under no lease, or under one that has ended by now."""
    return _events.c.id.not_in(_leased(bulk.dialect(session), _leases.c.until_at > now))


def _leased(dialect: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Ids of the events under any of these leases."""
    if dialect == "postgresql":
        return select(func.unnest(_leases.c.event_ids)).where(*conditions)
    readable = case((func.json_valid(_leases.c.event_ids), _leases.c.event_ids), else_="[]")
    each = func.json_each(readable).table_valued("value")
    return select(each.c.value).select_from(_leases.join(each, true())).where(*conditions)


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """The count of due events, `at_most` so that a backlog costs no full scan."""
    due_now = _events.c.next_at <= now, free(session, now=now)
    found = select(_events.c.id).where(text("state = 'received'"), *due_now).limit(at_most)
    return session.scalar(select(func.count()).select_from(found.subquery())) or 0


def is_at_work(session: Session, *, now: datetime) -> bool:
    """Whether a worker holds events."""
    return session.scalar(select(_leases.c.id).where(_leases.c.until_at > now).limit(1)) is not None


def take(session: Session, ids: Collection[UUID], *, until: datetime) -> UUID:
    """Lease these events. Returns the lease's id."""
    lease_id = new_id()
    values = list(ids) if bulk.dialect(session) == "postgresql" else [event_id.hex for event_id in ids]
    session.execute(insert(_leases), {"id": lease_id, "event_ids": values, "until_at": until})
    return lease_id


def hold(session: Session, lease_id: UUID) -> bool:
    """Keep a lease from being ended until the transaction ends. False: it was ended, and others have its events."""
    held = select(_leases.c.id).where(_leases.c.id == lease_id).with_for_update(read=True)
    return session.scalar(held) is not None


def end(session: Session, lease_id: UUID) -> bool:
    """End a lease with the result of its events. False: it was ended before, and others have its events."""
    ended = delete(_leases).where(_leases.c.id == lease_id).returning(_leases.c.id)
    return session.scalar(ended) is not None


def lock(session: Session, ids: Collection[UUID]) -> list[LockedEvent]:
    """Lock events by id, oldest first. Returns those that exist."""
    return bulk.records(session, LockedEvent, _locking(bulk.dialect(session)), bulk.keys(ids))


@cache
def _locking(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Event, LockedEvent)).where(bulk.among(dialect, _events.c.id))
    return chosen.order_by(_events.c.id).with_for_update()


def change_plain(session: Session, changes: Sequence[bulk.Row]) -> int:
    """Update the given columns of plain events, by `id`. Returns the count of those that are still as claimed."""
    return bulk.update(session, Event, changes, only=_AS_CLAIMED)


def bodies(session: Session, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Bodies by event id, without events that have none."""
    chosen = select(_events.c.id, _events.c.body).where(bulk.among(bulk.dialect(session), _events.c.id))
    return {event_id: body for event_id, body in session.execute(chosen, bulk.keys(ids)) if body is not None}


def give_up(session: Session, ids: Collection[UUID], *, problem: str, now: datetime) -> None:
    """Mark events as failed that were claimed too often without a result."""
    failed = {"state": EventState.FAILED, "failure": "crashed", "problem": problem, "processed_at": now}
    waiting = bulk.among(bulk.dialect(session), _events.c.id), _events.c.state == EventState.RECEIVED
    session.execute(update(_events).where(*waiting).values(**failed), bulk.keys(ids))
