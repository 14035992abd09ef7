"""Decisions of routes, the jobs that they make, and the attempts to deliver those."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial, sqlite_foreign_key
from app.db.types import JsonText

UNFINISHED: Final = "state IN ('available', 'running', 'retryable')"  # of jobs
_QUEUE: Final = ("team", "destination", "next_at")  # the order of a destination's queue


class Decision(Base):
    """A route that matched an event, with the conditions, of an earlier release: jobs have them now (`decisions`)."""

    __tablename__ = "decisions"
    __table_args__ = (ForeignKeyConstraint(["event_id"], ["events.id"], ondelete="CASCADE"),)

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    team: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))  # empty in old rows: see `decisions`
    route: Mapped[str] = mapped_column(primary_key=True)
    route_version: Mapped[int]
    conditions: Mapped[list[Any]]
    created_at: Mapped[datetime]


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("event_id", "team", "route"),
        sqlite_foreign_key(["event_id"], ["events.id"]),
        sqlite_foreign_key(["team", "destination"], ["destinations.team", "destinations.name"]),
        CheckConstraint(
            "state IN ('available', 'running', 'retryable', 'completed', 'discarded', 'cancelled')", name="state"
        ),
        # A claim reads the jobs of one destination, so that no backlog delays another. `held`: jobs that run or whose
        # worker was killed; parked jobs are in neither.
        partial("ix_jobs_ready", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NULL AND crashes = 0"),
        partial("ix_jobs_held", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NULL AND crashes > 0"),
        partial("ix_jobs_parked", *_QUEUE, where=f"{UNFINISHED} AND blocked_by IS NOT NULL"),
        partial("ix_jobs_discarded", "id", where="state = 'discarded'"),
        # For those of a destination that are new.
        partial("ix_jobs_discarded_at", "team", "destination", "finished_at", where="state = 'discarded'"),
        partial("ix_jobs_cancelled", "id", where="state = 'cancelled'"),
        # For finding jobs that a team's broker lost, by the time of their delivery.
        partial("ix_jobs_completed", "team", "destination", "finished_at", where="state = 'completed'"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    event_id: Mapped[UUID]
    route: Mapped[str]
    route_version: Mapped[int]
    team: Mapped[str]
    destination: Mapped[str]
    name: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int]  # attempts begun, shown to the team
    crashes: Mapped[int]  # claims in a row without a result
    next_at: Mapped[datetime]
    blocked_by: Mapped[str | None]  # the reason why it is parked
    problem: Mapped[str | None]
    fault: Mapped[str | None]  # of a discarded job: `team` or `ours`
    backfill: Mapped[bool] = mapped_column(server_default=false())  # made by a backfill
    schedule_from: Mapped[int] = mapped_column(server_default=text("0"))  # attempts before the schedule was restarted
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    # The decision that made it, see `decisions`; `route_version` may be a later one.
    matched_version: Mapped[int | None]
    conditions: Mapped[list[Any] | None] = mapped_column(JsonText(list))
    # The first attempt, if a broker accepted it, see `attempts`.
    started_at: Mapped[datetime | None]
    latency_ms: Mapped[float | None]


class Attempt(Base):
    """An attempt to deliver a job. A first one that a broker accepted is in the job's row instead (`attempts`)."""

    __tablename__ = "attempts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    latency_ms: Mapped[float]
    outcome: Mapped[str]  # completed, retryable, discarded
    status: Mapped[int | None]  # HTTP destinations: the answer's status
    error: Mapped[str | None]
    response_excerpt: Mapped[str | None]
