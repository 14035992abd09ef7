"""Connections, the people and organizations that own them, and the links between them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, BigInt, partial, sqlite_foreign_key


class Connection(Base):
    """The record of a connection of Nango; `nango_id` is its generation (Nango contract: Connection identity)."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("environment", "integration", "connection_id"),
        CheckConstraint("status IN ('unconfirmed', 'active', 'needs_reconnect', 'deleted')", name="status"),
        Index("ix_connections_connection_id", "connection_id"),
        partial("ix_connections_wanted_user", "wanted_user", where="unlinked_reason IS NOT NULL"),
        partial("ix_connections_wanted_email", "wanted_email", where="unlinked_reason IS NOT NULL"),
        partial("ix_connections_wanted_organization", "wanted_organization", where="unlinked_reason IS NOT NULL"),
        partial("ix_connections_superseded", "superseded_by", where="superseded_by IS NOT NULL"),
        partial("ix_connections_owner_look_at", "owner_look_at", where="owner_look_at IS NOT NULL"),
        partial("ix_connections_needs_reconnect", "id", where="status = 'needs_reconnect'"),
        # For lists by a clock, and for tokens that lapsed: of one status, the earliest first.
        partial(
            "ix_connections_expiring",
            "status",
            "expires_at",
            "alive_by",
            "last_error_type",
            where="expires_at IS NOT NULL",
        ),
        partial("ix_connections_grant_expires_at", "status", "grant_expires_at", where="grant_expires_at IS NOT NULL"),
        partial("ix_connections_alive", "environment", "integration", "slot", where="alive_by IS NOT NULL"),
        # For the next number on SQLite; PostgreSQL has a sequence, `connection_slots`.
        partial("ix_connections_slot", "slot", where="slot IS NOT NULL"),
        # For reconciliations: a page of Nango's list, newest first, is a span of ids.
        partial("ix_connections_generation", "environment", "nango_id", where="status <> 'deleted'"),
        # For queries by tag; SQLite has no such index.
        Index("ix_connections_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}).ddl_if(
            dialect="postgresql"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str]
    integration: Mapped[str]
    connection_id: Mapped[str]
    nango_id: Mapped[int | None] = mapped_column(BigInt)
    announced_nango_id: Mapped[int | None] = mapped_column(BigInt)  # the generation whose creation was routed
    provider: Mapped[str | None]
    auth_mode: Mapped[str | None]
    status: Mapped[str]
    tags: Mapped[dict[str, Any]]
    tags_disagree: Mapped[bool]
    drift: Mapped[str | None]
    known_tags: Mapped[dict[str, Any] | None]  # the last tags that carried the link, while there is drift
    unlinked_reason: Mapped[str | None]
    superseded_by: Mapped[UUID | None]  # the link of the same owner's newer connection
    # The owner that the tags name, by external ids, so that users and organizations added later are linked.
    wanted_user: Mapped[str | None]
    wanted_email: Mapped[str | None]
    wanted_organization: Mapped[str | None]
    owner_look_at: Mapped[datetime | None]  # the next owner lookup (directory policy `sql`)
    expires_at: Mapped[datetime | None]  # of the credentials, as last read; only times of them are stored
    expires_source: Mapped[str | None]  # `app.domain.refreshing.clocks`, as for the grant; None: not read yet
    grant_expires_at: Mapped[datetime | None]  # when only the end user can renew the credentials
    grant_source: Mapped[str | None]
    grant_reason: Mapped[str | None]  # what the deadline counts from, or why there is none
    renewed_at: Mapped[datetime | None]  # the latest moment by which the token was surely issued
    authorized_at: Mapped[datetime | None]  # when the end user authorized it; None: not seen
    not_refreshable: Mapped[str | None]  # why nothing renews the credentials, where a renewal has shown it
    announced_expiry: Mapped[datetime | None]  # the deadlines that `token.expiring` told of last
    announced_grant: Mapped[datetime | None]
    alive_by: Mapped[str | None]  # `policy` or `budget`, where its grant is kept alive and its token is not kept fresh
    slot: Mapped[int | None] = mapped_column(BigInt)  # its number, by which its turn in a window follows
    last_error_type: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]  # the first error that nothing has ended
    # The failure that teams were told of last, so that the same one is told once (`app.domain.recurring_failures`).
    failure_shape: Mapped[str | None]
    failure_event_id: Mapped[UUID | None]
    failure_at: Mapped[datetime | None]  # when the same failure was posted last
    calls_since: Mapped[datetime | None]  # the day of `calls`
    calls: Mapped[int | None]  # of Waylink's own for this connection's token (`app.domain.refreshing.daily_calls`)
    errors_seen_at: Mapped[datetime | None]  # time of the newest call that showed errors, or none
    observed_at: Mapped[datetime | None]  # time of the newest call or webhook that changed this row
    absences: Mapped[int]  # lookups in a row that did not find it
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class User(Base):
    __tablename__ = "users"
    __table_args__ = (
        sqlite_foreign_key(["organization_id"], ["organizations.id"]),
        Index("ix_users_email", text("lower(email)")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None]
    display_name: Mapped[str | None]
    organization_id: Mapped[UUID | None] = mapped_column(index=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    # A removed user with closed links keeps its row, under an external id that cannot be claimed.
    removed_at: Mapped[datetime | None]
    former_external_id: Mapped[str | None]


class Organization(Base):
    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]  # as a user's
    former_external_id: Mapped[str | None]


class Link(Base):
    """The ownership of a connection from `opened_at` to `closed_at`. Rows are closed, never deleted."""

    __tablename__ = "links"
    __table_args__ = (
        sqlite_foreign_key(["connection_ref"], ["connections.id"]),
        sqlite_foreign_key(["user_id"], ["users.id"]),
        sqlite_foreign_key(["organization_id"], ["organizations.id"]),
        CheckConstraint("user_id IS NOT NULL OR organization_id IS NOT NULL", name="owner"),
        partial("uq_links_open", "connection_ref", where="closed_at IS NULL", unique=True),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    connection_ref: Mapped[UUID] = mapped_column(index=True)
    nango_id: Mapped[int | None] = mapped_column(BigInt)
    user_id: Mapped[UUID | None] = mapped_column(index=True)
    organization_id: Mapped[UUID | None] = mapped_column(index=True)
    linked_by: Mapped[str]
    event_id: Mapped[UUID | None]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    close_reason: Mapped[str | None]
