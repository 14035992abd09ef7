"""Teams, their destinations, and the versions of their routes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, BigInt, partial


class Team(Base):
    __tablename__ = "teams"

    name: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]  # `file` (read-only elsewhere) or `api`
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class Destination(Base):
    __tablename__ = "destinations"
    __table_args__ = (CheckConstraint("kind IN ('celery', 'http')", name="kind"),)

    team: Mapped[str] = mapped_column(ForeignKey("teams.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str | None]
    url: Mapped[str | None]  # HTTP
    broker_sealed: Mapped[bytes | None]  # the URL of a Celery team's own broker, encrypted; None: the default one
    timeout_seconds: Mapped[float | None]  # HTTP; None: the default
    rate_per_second: Mapped[float | None]  # jobs at most; None: no limit
    source: Mapped[str]
    version: Mapped[int] = mapped_column(server_default=text("1"))  # of the definition, against concurrent edits
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]  # its jobs are parked
    disabled_reason: Mapped[str | None]
    retired_at: Mapped[datetime | None]


class DestinationSecret(Base):
    """A signing secret of an HTTP destination, encrypted. Several are live during a rotation."""

    __tablename__ = "destination_secrets"
    __table_args__ = (
        ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),
        Index("ix_destination_secrets_team", "team", "destination"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    team: Mapped[str]
    destination: Mapped[str]
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]  # None: until it is rotated


class DestinationHealth(Base):
    """The state of a destination's circuit breaker, apart from its definition, which hardly changes."""

    __tablename__ = "destination_health"
    __table_args__ = (ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),)

    team: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    window_at: Mapped[datetime]  # the beginning of the window of `succeeded` and `failed`
    succeeded: Mapped[int]
    failed: Mapped[int]
    failing_since: Mapped[datetime | None]  # set while the breaker is open
    probe_at: Mapped[datetime | None]  # the next probe
    probes: Mapped[int]  # probes that failed in a row
    last_succeeded_at: Mapped[datetime | None]
    last_failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    paced_to: Mapped[datetime | None]  # of the rate limit, see `app.domain.pacing`


class Discards(Base):
    """Dead letters of a destination that wait to be announced, together at `next_at`."""

    __tablename__ = "discards"

    team: Mapped[str] = mapped_column(primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(primary_key=True)
    next_at: Mapped[datetime]
    since: Mapped[datetime | None]  # when the first was discarded; None while `count` is 0
    count: Mapped[int]
    facts: Mapped[dict[str, Any]]  # the rest of the announcement


class RouteSetVersion(Base):
    """One row with one number, which grows with every change of a route: workers see changes by one cheap read."""

    __tablename__ = "route_set"
    __table_args__ = (CheckConstraint("id = 1", name="single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(BigInt)


class RouteVersion(Base):
    """A version of a route, in force from route set `since_set` up to, not including, `until_set`.

    The routes of a past set are the rows whose span contains it, so every old decision can be repeated.
    """

    __tablename__ = "routes"
    __table_args__ = (
        ForeignKeyConstraint(["team", "destination"], ["destinations.team", "destinations.name"]),
        partial("uq_routes_live", "team", "name", where="until_set IS NULL", unique=True),
    )

    team: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    destination: Mapped[str]
    job: Mapped[str]
    pattern: Mapped[dict[str, Any]]
    enabled: Mapped[bool] = mapped_column(server_default=true())
    source: Mapped[str]
    since_set: Mapped[int] = mapped_column(BigInt)
    until_set: Mapped[int | None] = mapped_column(BigInt)
    created_at: Mapped[datetime]
