"""Renewals of tokens: plans, limits, pauses, policies, forecasts, and repairs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial
from app.db.types import JsonText


class Refresh(Base):
    """One renewal, planned or manual. A plan is open while `finished_at` is null; a connection has one at most."""

    __tablename__ = "refreshes"
    __table_args__ = (
        # Two indexes by connection, so that a claim, which rewrites open plans, writes one of them only: its pages are
        # anywhere.
        partial("uq_refreshes_open", "connection_ref", where="finished_at IS NULL", unique=True),
        partial("ix_refreshes_over", "connection_ref", "id", where="finished_at IS NOT NULL"),
        partial("ix_refreshes_due", "next_at", where="finished_at IS NULL"),
        partial("ix_refreshes_exhausted", "id", where="outcome = 'exhausted'"),  # for ages at which grants died
        # For what happened in an hour, to compare it with a forecast.
        partial("ix_refreshes_finished", "finished_at", where="finished_at IS NOT NULL"),
        # Plans that a pause holds: none where no integration is paused.
        partial(
            "ix_refreshes_held",
            "connection_ref",
            where="finished_at IS NULL AND outcome IN ('paused', 'provider_down')",
        ),
        # Plans whose turn was put off beyond their deadline.
        partial("ix_refreshes_late", "deadline_at", where="finished_at IS NULL AND next_at > deadline_at"),
        partial("ix_refreshes_urgent", "urgent_at", where="finished_at IS NULL AND urgent_at IS NOT NULL"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_ref: Mapped[UUID] = mapped_column(ForeignKey("connections.id"))
    refresh_at: Mapped[datetime]  # as planned
    next_at: Mapped[datetime]  # due, or the end of the lease
    deadline_at: Mapped[datetime | None]  # what `keeps` names lapses then, where no refresh comes before
    keeps: Mapped[str | None]  # `token` or `grant`
    urgent_at: Mapped[datetime | None]  # `app.domain.refreshing.plan`: the order of claims
    forced: Mapped[bool]
    reason: Mapped[str]
    requested_by: Mapped[str | None]  # the actor of a manual refresh; None: planned
    attempts: Mapped[int]
    failures: Mapped[int]  # failed plans in a row before this one
    created_at: Mapped[datetime]
    asked_at: Mapped[datetime | None]  # when the GET was sent; None: none was
    answered_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[str | None]
    previous_expires_at: Mapped[datetime | None]  # as known before this refresh
    expires_at: Mapped[datetime | None]  # as read by this refresh
    previous_grant_expires_at: Mapped[datetime | None]
    grant_expires_at: Mapped[datetime | None]


class RefreshWindow(Base):
    """Recent results of an integration's refreshes, by which an outage is seen (`app.domain.refreshing.outages`)."""

    __tablename__ = "refresh_windows"

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    began_at: Mapped[datetime]
    renewed: Mapped[int]
    failed: Mapped[int]
    renewed_before: Mapped[int]  # in the window before
    failed_before: Mapped[int]


class RefreshTurns(Base):
    """The turns of an integration whose refreshes are limited (`app.domain.refreshing.limits`)."""

    __tablename__ = "refresh_turns"

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime]
    held_until: Mapped[datetime]


class RefreshPause(Base):
    """An integration whose refreshes are paused. A plan that is due meanwhile stays open, with the outcome `paused`."""

    __tablename__ = "refresh_pauses"
    __table_args__ = (CheckConstraint("cause IN ('outage', 'operator')", name="cause"),)

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    cause: Mapped[str]
    paused_at: Mapped[datetime]
    actor: Mapped[str | None]  # of an operator's pause, as its reason
    reason: Mapped[str | None]
    failed: Mapped[int | None]  # connections that began to fail, as the outage was seen
    renewed_or_failed: Mapped[int | None]
    probes: Mapped[int]  # rounds of them that began
    probe_at: Mapped[datetime | None]  # the next round; None: it lasts until it is resumed


class RefreshPolicyState(Base):
    """The refresh policy of an integration that its processes go by, and how far its open plans follow a change."""

    __tablename__ = "refresh_policies"

    environment: Mapped[str] = mapped_column(primary_key=True)
    integration: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]  # `app.domain.refreshing.replanning`
    process_started_at: Mapped[datetime]  # of the newest process that goes by it
    only_missing: Mapped[bool]  # the policy before is not known: only connections without a plan are looked at
    after: Mapped[str | None]  # the last connection, by Nango's id, that was looked at; None: none was
    planned: Mapped[int]  # connections that got a plan, so far
    moved: Mapped[int]  # plans that were moved
    closed: Mapped[int]  # plans that ended
    finished_at: Mapped[datetime | None]  # when the last connection had been looked at; None: some have not


class RefreshForecast(Base):
    """The forecast of a day's refreshes, one for each environment and day (UTC), to compare with what happened."""

    __tablename__ = "refresh_forecasts"

    environment: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True)
    made_at: Mapped[datetime]
    starts_at: Mapped[datetime]  # of the first hour
    hours: Mapped[list[Any]] = mapped_column(JsonText(list))  # calls of each hour
    tables: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))  # the refresh policies in force


class Repair(Base):
    """The case of a connection that needs its end user: from the failure to the repair."""

    __tablename__ = "repairs"
    __table_args__ = (partial("uq_repairs_open", "connection_ref", where="closed_at IS NULL", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)  # in the order of `opened_at`
    connection_ref: Mapped[UUID] = mapped_column(ForeignKey("connections.id"), index=True)
    environment: Mapped[str]
    integration: Mapped[str]
    cause: Mapped[str]  # the error's type
    failing_since: Mapped[datetime]
    opened_at: Mapped[datetime]  # when `connection.needs_reconnect` told of it
    closed_at: Mapped[datetime | None]
    closed_by: Mapped[str | None]  # `app.domain.repairs`
