"""Rejected webhooks, uses of keys, leases, and reconciliations."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Index,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, BigInt, partial


class Rejection(Base):
    """Rejected deliveries, a row per minute, environment and cause, so that a flood writes few rows.

    `environment` is empty where the requested one is not configured.
    """

    __tablename__ = "rejections"

    minute: Mapped[datetime] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[int]
    count: Mapped[int] = mapped_column(BigInt)
    # Nango's breaker counts within ten seconds: the newest ten seconds with their count, and the largest count of any.
    peak: Mapped[int] = mapped_column(BigInt)
    window_at: Mapped[datetime]
    window_count: Mapped[int] = mapped_column(BigInt)
    last_at: Mapped[datetime]
    last_peer: Mapped[str]
    last_detail: Mapped[str]


class SigningKeyUse(Base):
    """The use of a signing key by webhooks. `key` is its name (`key_name`), not the key."""

    __tablename__ = "signing_key_uses"

    environment: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInt)
    first_at: Mapped[datetime]  # when a web process first had it configured
    live_at: Mapped[datetime]  # when one last had; written once an hour
    last_at: Mapped[datetime | None]  # when it last signed a webhook


class Lease(Base):
    """An exclusive lease across calls to other systems, during which no transaction may be open. Ends by itself."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[UUID]
    until_at: Mapped[datetime]


class Reconciliation(Base):
    """A comparison of an environment's list at Nango with the stored connections, with its report. One at a time."""

    __tablename__ = "reconciliations"
    __table_args__ = (
        CheckConstraint("trigger IN ('schedule', 'demand', 'import')", name="trigger"),
        CheckConstraint("stage IN ('listing', 'checking', 'settling', 'done')", name="stage"),
        partial("uq_reconciliations_open", "environment", where="finished_at IS NULL", unique=True),
        Index("ix_reconciliations_environment", "environment", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    trigger: Mapped[str]
    dry_run: Mapped[bool]
    accept_deletions: Mapped[bool]  # an operator accepted any number of absences
    stage: Mapped[str]
    stage_since: Mapped[datetime]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    next_at: Mapped[datetime]  # due, or the end of the lease
    attempts: Mapped[int]  # claims without a result
    failures: Mapped[int]  # unanswered calls in a row
    holder: Mapped[UUID | None]  # the lease's holder
    covered: Mapped[int] = mapped_column(BigInt)  # rows read by the current listing
    below: Mapped[int | None] = mapped_column(BigInt)  # the lowest Nango id of the current listing so far
    relist: Mapped[bool]  # the second check is a listing, where that takes fewer calls than lookups
    pages: Mapped[int]
    calls: Mapped[int]
    seen: Mapped[int] = mapped_column(BigInt)  # connections in Nango's list
    found: Mapped[dict[str, Any]]  # differences of the first check, by type
    counted: Mapped[dict[str, Any]]  # differences of the second check, by type, each with an event
    samples: Mapped[dict[str, Any]]  # some of the found differences, by type
    missed_by_webhook: Mapped[int]  # counted differences whose webhook was missed
    healed: Mapped[int]  # counted differences whose event is processed
    unhealed: Mapped[int]  # counted differences whose event failed
    heal_seconds_sum: Mapped[float]  # from Nango's `created` to processed, of connections whose webhook was missed
    heal_seconds_max: Mapped[float]
    heal_count: Mapped[int]
    outcome: Mapped[str | None]
    problem: Mapped[str | None]


class Difference(Base):
    """A difference between Nango's list and a stored connection, from the first check until its event is finished."""

    __tablename__ = "differences"
    __table_args__ = (
        UniqueConstraint("environment", "integration", "connection_id", "type"),
        partial("ix_differences_told", "environment", "event_id", where="event_id IS NOT NULL"),
        partial("ix_differences_open", "environment", "id", where="event_id IS NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    integration: Mapped[str]
    connection_id: Mapped[str]
    type: Mapped[str]
    first_seen_at: Mapped[datetime]
    since: Mapped[datetime | None]  # Nango's `created`, of unknown connections
    event_id: Mapped[UUID | None]  # set by the second check
