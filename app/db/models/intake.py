"""Deliveries, repeats of them, and the events that they become."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Uuid,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, BigInt, partial, sqlite_foreign_key
from app.db.types import JsonText
from app.domain.event import EventType

# Types of which hardly any events come where all is well: an index has these, and costs the others nothing.
RARE_TYPES: Final = (
    EventType.CONNECTION_CREATION_FAILED,
    EventType.CONNECTION_REAUTHORIZATION_FAILED,
    EventType.CONNECTION_REFRESH_FAILED,
    EventType.CONNECTION_DELETED,
    EventType.CONNECTION_TAGS_CHANGED,
    EventType.CONNECTION_NEEDS_RECONNECT,
    EventType.TOKEN_EXPIRING,
    EventType.NANGO_UNHANDLED,
    EventType.DESTINATION_FAILING,
    EventType.DESTINATION_DISABLED,
    EventType.DESTINATION_RECOVERED,
    EventType.JOB_DISCARDED,
)


class Delivery(Base):
    """The duplicate window: one row per (environment, fingerprint) of the last minutes (promise 4)."""

    __tablename__ = "deliveries"

    environment: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    first_at: Mapped[datetime] = mapped_column(index=True)
    taken_by: Mapped[UUID | None]  # the web process that received the first delivery; None: of an earlier release


class Repeat(Base):
    """A repeated delivery: identical bytes within their window. A worker decides whether it is a duplicate.

    Repeats of one event are numbered in the order of their commits. The last decided one is kept, since the end of its
    answer decides the next one.
    """

    __tablename__ = "repeats"
    __table_args__ = (Index("ix_repeats_event_id", "event_id", "number"),)

    number: Mapped[int] = mapped_column(BigInt.with_variant(Integer(), "sqlite"), primary_key=True)
    id: Mapped[UUID] = mapped_column(unique=True)  # also the id of the further event, if it is one
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))  # of the first delivery
    first_by: Mapped[UUID]  # the web process that received the first delivery
    taken_by: Mapped[UUID]  # the web process that received this delivery
    received_at: Mapped[datetime]
    belongs_to: Mapped[UUID | None]  # once decided: its own event, or the event that it is a duplicate of
    traceparent: Mapped[str | None]  # as an event's


class WebProcess(Base):
    """A web process's report: its answers to deliveries before an id are whole, except the lost ones."""

    __tablename__ = "web_processes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    settled_before: Mapped[UUID]  # a delivery id: all answers before it are reported


class LostAnswer(Base):
    """A delivery whose answer was not written completely: Nango is expected to retry it."""

    __tablename__ = "lost_answers"

    id: Mapped[UUID] = mapped_column(primary_key=True)


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        sqlite_foreign_key(["connection_ref"], ["connections.id"], ondelete="SET NULL"),
        CheckConstraint("state IN ('received', 'processed', 'failed')", name="state"),
        CheckConstraint("origin IN ('webhook', 'reconcile', 'refresh', 'operator', 'system')", name="origin"),
        partial("ix_events_due", "next_at", where="state = 'received'"),
        partial("ix_events_suspects", "next_at", where="state = 'received' AND attempts > 0"),
        partial("ix_events_failed", "id", where="state = 'failed'"),
        partial("ix_events_failed_at", "processed_at", where="state = 'failed'"),  # for those that are new
        partial("ix_events_of_connection", "connection_ref", "id", where="connection_ref IS NOT NULL"),
        # Those that name one which is not known.
        partial(
            "ix_events_without_connection",
            "connection_id",
            "id",
            where="connection_ref IS NULL AND connection_id IS NOT NULL",
        ),
        # For searches, which follow connections to their events: all those that have none.
        partial("ix_events_alone", "id", where="connection_ref IS NULL AND type IS NOT NULL"),
        partial("ix_events_rare_type", "type", "id", where=f"type IN {tuple(map(str, RARE_TYPES))}"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    origin: Mapped[str]
    state: Mapped[str]
    received_at: Mapped[datetime]  # in the order of ids, by which queries filter times
    last_seen_at: Mapped[datetime]
    duplicates: Mapped[int]
    body: Mapped[bytes | None]  # the webhook's, or that of one of Waylink's own events (`app.domain.own_event`)
    next_at: Mapped[datetime]
    attempts: Mapped[int]  # claims whose lease ended without a result; after five the event fails
    looks: Mapped[int]  # successful lookups at Nango that did not confirm it
    # Filled when the event is processed.
    type: Mapped[str | None]
    integration: Mapped[str | None]
    connection_id: Mapped[str | None]
    connection_ref: Mapped[UUID | None]
    confirmed: Mapped[bool | None]
    tags: Mapped[dict[str, Any] | None]
    document: Mapped[dict[str, Any] | None]  # as matched against the routes of `route_set`
    cause_id: Mapped[UUID | None]  # the event whose document this one's is made from, see `documents`
    route_set: Mapped[int | None] = mapped_column(BigInt)
    failure: Mapped[str | None]  # crashed, error, not_confirmed
    problem: Mapped[str | None]  # the reason why it waits or failed, with the traceback of a fault
    untold: Mapped[str | None]  # the reason why it was suppressed: not routed
    processed_at: Mapped[datetime | None]
    recurrence_of: Mapped[
        UUID | None
    ]  # the event of the same failure that was routed; no foreign key: it may be deleted
    traceparent: Mapped[str | None]  # the trace that it belongs to, with its jobs (`app.domain.traceparent`)
    # The number, from 1, of the environment's live signing keys that verified the webhook; None: of an earlier release.
    signing_key: Mapped[int | None] = mapped_column(SmallInteger)


class EventLease(Base):
    """A batch of events that a worker has claimed. The transaction with the result deletes the row.

    A release that knows no leases may claim such events as well: `events.state` and `attempts` say whose result counts.
    """

    __tablename__ = "event_leases"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_ids: Mapped[list[Any]] = mapped_column(ARRAY(Uuid()).with_variant(JsonText(list), "sqlite"))
    until_at: Mapped[datetime]  # from then on the events count an attempt, and are due again
