"""The connections that an act on many takes: all of a filter of their list, or those with some ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, User
from app.db.read import connection_listing
from app.db.read.listing import ListFilters
from app.domain import canary
from app.domain.search import CONNECTION_FIELDS, parse_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFilters:
    """Conditions on connections, all of which have to hold, as in `ListFilters`. q: a resolved search. ids: only
    these. as_of: without connections that were stored later.
    """

    environment: str | None = None
    integration: str | None = None
    connection_id: str | None = None
    status: str | None = None
    user: str | None = None
    organization: str | None = None
    unlinked: bool = False
    drift: bool = False
    duplicates: bool = False
    kept_alive: bool = False
    failing: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    expires_before: datetime | None = None
    expires_after: datetime | None = None
    grant_before: datetime | None = None
    grant_after: datetime | None = None
    q: str | None = None
    ids: tuple[UUID, ...] | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConnectionGroup:
    """The number of connections to an integration, in a status."""

    environment: str
    integration: str
    status: str
    count: int


@dataclass(frozen=True, slots=True)
class ConnectionSample:
    id: UUID
    integration: str
    connection_id: str


_connections: Final = bulk.table(Connection)
_OWN: Final = frozenset({"q", "ids", "as_of"})


def count(session: Session, filters: ConnectionFilters) -> list[ConnectionGroup]:
    """The numbers of all that match, sorted."""
    by = Connection.environment, Connection.integration, Connection.status
    statement = _matching(session, select(*by, func.count()), filters).group_by(*by).order_by(*by)
    return [ConnectionGroup(*row) for row in session.execute(statement, _keys(filters))]


def samples(session: Session, filters: ConnectionFilters, *, limit: int) -> list[ConnectionSample]:
    """The oldest that match."""
    statement = _matching(session, select(*bulk.columns(Connection, ConnectionSample)), filters)
    rows = session.execute(statement.order_by(Connection.id).limit(limit), _keys(filters))
    return [ConnectionSample(*row) for row in rows]


def page(session: Session, filters: ConnectionFilters, *, after: UUID | None, limit: int) -> list[UUID]:
    """Up to `limit` ids of matching connections behind `after`, in their order."""
    statement = _matching(session, select(Connection.id), filters)
    if after is not None:
        statement = statement.where(Connection.id > after)
    return list(session.scalars(statement.order_by(Connection.id).limit(limit), _keys(filters)))


def _matching(session: Session, statement: Any, filters: ConnectionFilters) -> Any:
    statement = statement.select_from(Connection)
    if filters.duplicates or filters.user is not None or filters.organization is not None:
        statement = (
            statement.outerjoin(Link, (Link.connection_ref == Connection.id) & Link.closed_at.is_(None))
            .outerjoin(User, User.id == Link.user_id)
            .outerjoin(Organization, Organization.id == Link.organization_id)
        )
    shared = {each.name: getattr(filters, each.name) for each in fields(filters) if each.name not in _OWN}
    query = parse_stored(filters.q, CONNECTION_FIELDS) if filters.q is not None else None
    statement = connection_listing.matching(session, statement, ListFilters(query=query, **shared))
    statement = statement.where(Connection.environment != canary.ENVIRONMENT)
    if filters.ids is not None:
        statement = statement.where(bulk.among(bulk.dialect(session), _connections.c.id))
    if filters.as_of is not None:
        statement = statement.where(Connection.created_at <= filters.as_of)
    return statement


def _keys(filters: ConnectionFilters) -> dict[str, Any]:
    return bulk.keys(filters.ids) if filters.ids is not None else {}
