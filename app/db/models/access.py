"""Tokens, operators and their sessions, and who did what."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models.base import Base, partial


class ApiToken(Base):
    """A token of the API. Revoked ones are kept, so that the audit's names can be looked up."""

    __tablename__ = "api_tokens"
    __table_args__ = (partial("uq_api_tokens_live", "name", where="revoked_at IS NULL", unique=True),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)  # SHA-256 (docs/decisions, "tokens hashed without salt")
    scopes: Mapped[list[Any]]
    team: Mapped[str | None] = mapped_column(ForeignKey("teams.name"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]  # to within some minutes
    revoked_at: Mapped[datetime | None]


class Operator(Base):
    """A person who signs in: with a password, or as a subject of the identity provider."""

    __tablename__ = "operators"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'operator', 'team')", name="role"),
        CheckConstraint("(role = 'team') = (team IS NOT NULL)", name="team"),
        CheckConstraint("role <> 'team' OR NOT credentials", name="credentials"),
        CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="identity"),
        CheckConstraint("issuer IS NULL OR password_hash IS NULL", name="password"),
        UniqueConstraint("issuer", "subject"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str]
    team: Mapped[str | None] = mapped_column(ForeignKey("teams.name"))
    credentials: Mapped[bool]  # may read live credentials of connections
    password_hash: Mapped[str | None]  # argon2id, with its parameters and salt
    issuer: Mapped[str | None]  # of an account of the identity provider
    subject: Mapped[str | None]
    created_at: Mapped[datetime]
    signed_in_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class OperatorLink(Base):
    """A link with which an operator sets a password, once. Only the SHA-256 of its secret is stored."""

    __tablename__ = "operator_links"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    operator_id: Mapped[UUID] = mapped_column(ForeignKey("operators.id", ondelete="CASCADE"), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class OperatorSession(Base):
    """A browser that is signed in. Only the SHA-256 of its secret is stored; a session that ends is deleted."""

    __tablename__ = "operator_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(unique=True)
    operator_id: Mapped[UUID] = mapped_column(ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    method: Mapped[str]  # `password`, `link` or `oidc`
    address: Mapped[str]
    browser: Mapped[str]  # its User-Agent
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # to within a minute
    expires_at: Mapped[datetime] = mapped_column(index=True)  # whatever happens


class TeamPortal(Base):
    """The look of a team's portal, and the origins whose pages may embed it."""

    __tablename__ = "team_portals"

    team: Mapped[str] = mapped_column(ForeignKey("teams.name"), primary_key=True)
    title: Mapped[str | None]
    color: Mapped[str | None]  # `#rrggbb`
    origins: Mapped[list[Any]]
    changed_at: Mapped[datetime]


class TeamLink(Base):
    """A link that opens a team's portal without an account. Only the SHA-256 of its secret is stored.

    It is kept while sessions that it opened may live; one that is revoked is deleted, and its sessions with it.
    """

    __tablename__ = "team_links"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(unique=True)
    team: Mapped[str] = mapped_column(ForeignKey("teams.name"), index=True)
    note: Mapped[str | None]  # its receiver, as the operator wrote it
    made_by: Mapped[str]  # as the audit names them
    origin: Mapped[str | None]  # of the pages that may embed its sessions
    uses_left: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class TeamSession(Base):
    """A browser in which a team's link was opened. Only the SHA-256 of its secret is stored."""

    __tablename__ = "team_sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(unique=True)
    link_id: Mapped[UUID] = mapped_column(ForeignKey("team_links.id", ondelete="CASCADE"), index=True)
    address: Mapped[str]
    browser: Mapped[str]  # its User-Agent
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]  # to within a minute
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SignInAttempt(Base):
    """Failed attempts to sign in with one name or from one address, or a success of the two together.

    The key is a hash: what was typed as a name may have been a password.
    """

    __tablename__ = "sign_in_attempts"

    key: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(index=True)
    next_at: Mapped[datetime]


class SavedView(Base):
    """A list with its filters, by a name. `actor` saved it, and is the only one to see it unless it is shared."""

    __tablename__ = "saved_views"
    __table_args__ = (
        CheckConstraint("page IN ('events', 'jobs')", name="page"),
        Index("ix_saved_views_actor", "actor"),
        partial("ix_saved_views_shared", "id", where="shared"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    actor: Mapped[str]
    page: Mapped[str]  # the list
    name: Mapped[str]
    query: Mapped[str]  # of its URL
    shared: Mapped[bool]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime | None]


class IdempotentCall(Base):
    """A call of the API that was made with an idempotency key, kept for a day."""

    __tablename__ = "idempotent_calls"

    caller: Mapped[str] = mapped_column(primary_key=True)  # the actor's name in the audit
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]  # of method, path, query and body
    began_at: Mapped[datetime] = mapped_column(index=True)
    held_until: Mapped[datetime]  # the call may be under way until then
    status: Mapped[int | None]  # None: no answer is recorded
    answer: Mapped[str | None]  # JSON


class Audit(Base):
    """An action through Waylink. `detail` never holds a secret."""

    __tablename__ = "audit"
    __table_args__ = (
        CheckConstraint("outcome IN ('begun', 'done', 'failed')", name="outcome"),
        Index("ix_audit_subject", "subject", "id"),
        partial("ix_audit_begun", "id", where="outcome = 'begun'"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    outcome: Mapped[str]
