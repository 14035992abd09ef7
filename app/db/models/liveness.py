"""The processes, their counts, figures over time, and what was notified of them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Index,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base
from app.db.types import JsonText


class Tick(Base):
    """The last time that a task of Beat's ran, written at most every few seconds."""

    __tablename__ = "ticks"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]


class Process(Base):
    """A running process, or one that ended within a day; written by itself every few seconds.

    Times are by its own clock, but for `database_at`.
    """

    __tablename__ = "processes"
    __table_args__ = (
        CheckConstraint("kind IN ('web', 'events', 'io', 'beat')", name="kind"),
        {"postgresql_with": {"fillfactor": "50"}},  # an update finds room beside the row, and no index changes
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    schema_revision: Mapped[str]  # the one that its release needs
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # when its main loop last answered
    written_at: Mapped[datetime]
    database_at: Mapped[datetime | None]  # `written_at` by PostgreSQL's clock; None on SQLite, which has no other clock
    stopped_at: Mapped[datetime | None]  # of a clean stop
    progress: Mapped[dict[str, Any]]  # by kind of work, when it did some last
    task: Mapped[str | None]  # of those that it works on, the one that began first
    task_since: Mapped[datetime | None]


class Acknowledgement(Base):
    """Dead letters (`jobs`) or failed events that an operator has looked at, up to a moment.

    A row per kind and subject; the audit has the earlier ones.
    """

    __tablename__ = "acknowledgements"
    __table_args__ = (CheckConstraint("kind IN ('jobs', 'events')", name="kind"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)  # empty: all; a destination, `team/name`; or one's id
    until_at: Mapped[datetime]  # those that ended until then
    at: Mapped[datetime]
    actor: Mapped[str]
    note: Mapped[str | None]


class ProcessMetrics(Base):
    """The counts of one process since its start, written over every few seconds; one row has the ended ones'."""

    __tablename__ = "process_metrics"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]  # of the process; empty: of the ended ones
    seen_at: Mapped[datetime]  # by the database's clock
    ended: Mapped[bool] = mapped_column(server_default=false())  # stopped, and to be added to the ended ones
    counts: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))  # `app.domain.metric_counts`
    gauges: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))


class Canary(Base):
    """One row: the canary that is on its way or came last, and when one passed each stage before it.

    The moments of the canary itself are those of its event and job.
    """

    __tablename__ = "canary"
    __table_args__ = (CheckConstraint("id = 1", name="single"), {"postgresql_with": {"fillfactor": "50"}})

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[UUID | None]  # no foreign key: it is not stored yet, or erased
    next_at: Mapped[datetime]
    stored_at: Mapped[datetime | None]
    processed_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]


class Figure(Base):
    """A figure of one span of time: what was counted in it, or the highest value that was seen."""

    __tablename__ = "figures"
    __table_args__ = (Index("ix_figures_name", "step", "name", "at"),)  # of one figure over a time

    step: Mapped[str] = mapped_column(primary_key=True)  # `minute`, `hour` or `day`
    at: Mapped[datetime] = mapped_column(primary_key=True)  # when the span begins
    name: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[str] = mapped_column(primary_key=True)  # their values, as a JSON list
    value: Mapped[list[Any]] = mapped_column(JsonText(list))  # as in `app.domain.metric_counts`


class FigureTotals(Base):
    """The counts of all processes up to which figures are recorded: one row."""

    __tablename__ = "figure_totals"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]  # the minute in which they were read
    counts: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))


class NotificationChannel(Base):
    """A channel of notifications: the message that is under way to it, and how the last ones fared."""

    __tablename__ = "notification_channels"

    name: Mapped[str] = mapped_column(primary_key=True)
    looked_at: Mapped[datetime]  # when the checks were last looked at for it
    message_id: Mapped[str | None]  # of the message under way; None: there is none
    message: Mapped[dict[str, Any] | None] = mapped_column(JsonText(dict))
    attempts: Mapped[int]  # of that message
    next_at: Mapped[datetime]
    failures: Mapped[int]  # in a row
    failing_since: Mapped[datetime | None]
    error: Mapped[str | None]  # of the last failure
    sent_at: Mapped[datetime | None]  # when a message was last taken


class NotificationCheck(Base):
    """A check that is not well, or was not a moment ago, as one channel knows it (`app.domain.notifying.Watched`)."""

    __tablename__ = "notification_checks"

    channel: Mapped[str] = mapped_column(primary_key=True)
    check_id: Mapped[str] = mapped_column(primary_key=True)
    level: Mapped[str]
    since: Mapped[datetime]
    well_since: Mapped[datetime | None]
    told: Mapped[str | None]  # the level that the channel was told; None: none
    facts: Mapped[dict[str, Any]] = mapped_column(JsonText(dict))  # name, value, cause and repair
