"""Bulk runs, and those of their rows that were not changed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, BigInt, partial


class BulkRun(Base):
    """An act on all rows that match a filter, with its progress. What matches is fixed by `created_at`."""

    __tablename__ = "bulk_runs"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'running', 'paused', 'cancelled', 'done', 'failed')", name="state"),
        partial("ix_bulk_runs_due", "next_at", where="state IN ('waiting', 'running')"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    act: Mapped[str]
    team: Mapped[str | None]  # whose caller asked for it; None: no team's
    chosen: Mapped[str]  # the filter as JSON, in text: one that cannot be read must not be taken for an empty one
    reason: Mapped[str | None]
    actor: Mapped[str]
    state: Mapped[str]
    counted: Mapped[int] = mapped_column(BigInt)  # matching rows when it was made, or fewer; it never looks at more
    done: Mapped[int] = mapped_column(BigInt)
    failed: Mapped[int] = mapped_column(BigInt)
    left_alone: Mapped[int] = mapped_column(BigInt)
    after_id: Mapped[UUID | None]  # the cursor: the last row that was looked at
    after_at: Mapped[datetime | None]  # its time, where rows are walked in the order of one
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    next_at: Mapped[datetime]  # due, or the end of the lease
    attempts: Mapped[int]  # claims without a result
    holder: Mapped[UUID | None]  # the lease's holder
    problem: Mapped[str | None]
    audit_id: Mapped[UUID]


class BulkRunRow(Base):
    """A row that a run has not changed, and why. A run keeps a bounded number of them."""

    __tablename__ = "bulk_run_rows"

    run_id: Mapped[UUID] = mapped_column(ForeignKey("bulk_runs.id", ondelete="CASCADE"), primary_key=True)
    row_id: Mapped[UUID] = mapped_column(primary_key=True)
    result: Mapped[str]
    why: Mapped[str]
