"""Connections for people: found by what they are, and one with its history."""

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, func, select, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, Refresh, User
from app.db.read import duplicates
from app.db.read.listing import Filters, equal, page, shown_time
from app.errors import NotFound
from app.ids import CONNECTION, show


def connections(session: Session, filters: Filters) -> list[dict[str, Any]]:
    statement = equal(
        _connection_rows(),
        (Connection.status, filters.status),
        (Connection.environment, filters.environment),
        (Connection.integration, filters.integration),
        (Connection.connection_id, filters.connection_id),
        (User.external_id, filters.user),
        (Organization.external_id, filters.organization),
    )
    if filters.unlinked:
        statement = statement.where(Connection.unlinked_reason.is_not(None))
    if filters.drift:
        statement = statement.where(Connection.drift.is_not(None))
    if filters.duplicates:
        statement = statement.where(duplicates.is_one_of_several())
    if filters.tags:
        statement = statement.where(*_tagged(bulk.dialect(session), filters.tags))
    return [_connection(*row) for row in session.execute(page(statement, Connection.id, filters))]


def connection(session: Session, connection_ref: UUID) -> dict[str, Any]:
    """One connection with the history of its links and refreshes. Raises NotFound."""
    row = session.execute(_connection_rows().where(Connection.id == connection_ref)).first()
    if row is None:
        raise NotFound("connection", show(CONNECTION, connection_ref))
    links = session.scalars(select(Link).where(Link.connection_ref == connection_ref).order_by(Link.id.desc()))
    refreshes = session.scalars(
        select(Refresh).where(Refresh.connection_ref == connection_ref).order_by(Refresh.id.desc()).limit(20)
    )
    one: Connection = row[0]
    return _connection(*row) | {
        "nango_id": one.nango_id,
        "tags_disagree": one.tags_disagree,
        "known_tags": one.known_tags,
        "siblings": duplicates.siblings(session, connection_ref),
        "last_error_type": one.last_error_type,
        "last_error_at": shown_time(one.last_error_at),
        "observed_at": shown_time(one.observed_at),
        "links": [
            {
                "linked_by": each.linked_by,
                "opened_at": shown_time(each.opened_at),
                "closed_at": shown_time(each.closed_at),
                "close_reason": each.close_reason,
            }
            for each in links
        ],
        "refreshes": [
            {
                "refresh_at": shown_time(each.refresh_at),
                "reason": each.reason,
                "requested_by": each.requested_by,
                "forced": each.forced,
                "finished_at": shown_time(each.finished_at),
                "outcome": each.outcome,
                "error": each.error,
                "previous_expires_at": shown_time(each.previous_expires_at),
                "expires_at": shown_time(each.expires_at),
            }
            for each in refreshes
        ],
    }


def find_connection(
    session: Session, connection_id: str, *, integration: str | None = None, environment: str | None = None
) -> UUID:
    """Our id of the one connection with this id of Nango's. Raises NotFound, also when there are several."""
    statement = equal(
        select(Connection.id).where(Connection.connection_id == connection_id),
        (Connection.integration, integration),
        (Connection.environment, environment),
    )
    found = session.scalars(statement.limit(2)).all()
    if len(found) != 1:
        several = "single connection (there are several; name integration and environment, or use our con_… id)"
        raise NotFound("connection" if not found else several, connection_id)
    return cast("UUID", found[0])


def _tagged(dialect: str, tags: Mapping[str, str]) -> list[ColumnElement[bool]]:
    if dialect == "postgresql":
        return [type_coerce(Connection.tags, JSONB).contains(dict(tags))]
    each = func.json_each(Connection.tags).table_valued("key", "value")
    return [exists().select_from(each).where(each.c.key == key, each.c.value == tags[key]) for key in tags]


def _connection_rows() -> Select[Any]:
    statement: Any = (
        select(Connection, Link, User, Organization, Refresh)
        .outerjoin(Link, (Link.connection_ref == Connection.id) & Link.closed_at.is_(None))
        .outerjoin(User, User.id == Link.user_id)
        .outerjoin(Organization, Organization.id == Link.organization_id)
        .outerjoin(Refresh, (Refresh.connection_ref == Connection.id) & Refresh.finished_at.is_(None))
    )
    return cast("Select[Any]", statement)


def _connection(
    one: Connection, link: Link | None, user: User | None, organization: Organization | None, refresh: Refresh | None
) -> dict[str, Any]:
    return {
        "id": show(CONNECTION, one.id),
        "environment": one.environment,
        "integration": one.integration,
        "connection_id": one.connection_id,
        "provider": one.provider,
        "auth_mode": one.auth_mode,
        "status": one.status,
        "tags": one.tags,
        "user": user.external_id if user else None,
        "organization": organization.external_id if organization else None,
        "linked_by": link.linked_by if link else None,
        "unlinked_reason": one.unlinked_reason,
        "drift": one.drift,
        "expires_at": shown_time(one.expires_at),
        "refresh_at": shown_time(refresh.refresh_at) if refresh else None,
    }
