"""Lists of connections by their properties, and one connection with its history."""

from operator import attrgetter
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, Refresh, User
from app.db.read import connection_search, searching, sibling_connections
from app.db.read.listing import ListFilters, equal, page
from app.db.read.searching import Page, Place
from app.db.read.shown_rows import shown_time
from app.db.read.tag_conditions import tagged
from app.domain.refreshing.clocks import unread, without_expiry
from app.domain.refreshing.lives import ClockSource
from app.domain.refreshing.outcomes import why_not_refreshable
from app.domain.states import ConnectionStatus
from app.errors import NotFound
from app.ids import CONNECTION, show

_LIVE: Final = tuple(status for status in ConnectionStatus if status is not ConnectionStatus.DELETED)


def connections(session: Session, filters: ListFilters) -> Page:
    return searching.page_of(
        session,
        page(matching(session, _connection_rows(), filters), Connection.id, filters),
        Connection.id,
        CONNECTION,
        place=Place(before=filters.before, limit=filters.limit, search=_search(session, filters)),
        read=lambda bounded: [_connection(*row) for row in session.execute(bounded)],
    )


def matching(session: Session, statement: Select[Any], filters: ListFilters) -> Select[Any]:
    """The statement with the conditions of these filters. It has to join Link, User and Organization for those."""
    statement = equal(
        statement,
        (Connection.status, filters.status),
        (Connection.environment, filters.environment),
        (Connection.integration, filters.integration),
        (Connection.connection_id, filters.connection_id),
        (User.external_id, filters.user),
        (Organization.external_id, filters.organization),
    )
    if bounds := _bounds(filters):
        # A deleted connection has no token. The statuses are named, so that the indexes over them are of use.
        live = [] if filters.status is not None else [Connection.status.in_(_LIVE)]
        statement = statement.where(*live, *bounds)
    if filters.unlinked:
        statement = statement.where(Connection.unlinked_reason.is_not(None))
    if filters.drift:
        statement = statement.where(Connection.drift.is_not(None))
    if filters.kept_alive:
        statement = statement.where(Connection.alive_by.is_not(None))
    if filters.failing:
        statement = statement.where(Connection.last_error_type.is_not(None), Connection.status.in_(_LIVE))
    if filters.duplicates:
        statement = statement.where(sibling_connections.is_one_of_several())
    if filters.tags:
        statement = statement.where(*tagged(bulk.dialect(session), Connection.tags, filters.tags))
    if filters.query is not None:
        statement = statement.where(*connection_search.conditions(session, filters.query))
    return statement


def connection(session: Session, connection_ref: UUID) -> dict[str, Any]:
    """One connection with its links and refreshes. Raises NotFound."""
    row = session.execute(_connection_rows().where(Connection.id == connection_ref)).first()
    if row is None:
        raise NotFound("connection", show(CONNECTION, connection_ref))
    links = session.scalars(select(Link).where(Link.connection_ref == connection_ref).order_by(Link.id.desc()))
    refreshes = _refreshes(session, connection_ref, limit=20)
    found: Connection = row[0]
    return _connection(*row) | {
        "nango_id": found.nango_id,
        "tags_disagree": found.tags_disagree,
        "known_tags": found.known_tags,
        "siblings": sibling_connections.siblings(session, connection_ref),
        "observed_at": shown_time(found.observed_at),
        "renewed_at": shown_time(found.renewed_at),
        "links": [
            {
                "linked_by": link.linked_by,
                "opened_at": shown_time(link.opened_at),
                "closed_at": shown_time(link.closed_at),
                "close_reason": link.close_reason,
            }
            for link in links
        ],
        "refreshes": [
            {
                "refresh_at": shown_time(refresh.refresh_at),
                "reason": refresh.reason,
                "requested_by": refresh.requested_by,
                "forced": refresh.forced,
                "finished_at": shown_time(refresh.finished_at),
                "outcome": refresh.outcome,
                "error": refresh.error,
                "previous_expires_at": shown_time(refresh.previous_expires_at),
                "expires_at": shown_time(refresh.expires_at),
            }
            for refresh in refreshes
        ],
    }


def _refreshes(session: Session, connection_ref: UUID, *, limit: int) -> list[Refresh]:
    """The newest refreshes of a connection, its open plan among them. Each of both kinds has an index of its own."""
    mine = select(Refresh).where(Refresh.connection_ref == connection_ref).order_by(Refresh.id.desc()).limit(limit)
    kinds = Refresh.finished_at.is_(None), Refresh.finished_at.is_not(None)
    found = [row for kind in kinds for row in session.scalars(mine.where(kind))]
    return sorted(found, key=attrgetter("id"), reverse=True)[:limit]


def find_connection(
    session: Session, connection_id: str, *, integration: str | None = None, environment: str | None = None
) -> UUID:
    """Our id of the only connection with this id of Nango's. Raises NotFound, also when there are several."""
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


def _search(session: Session, filters: ListFilters) -> int | None:
    """The number of rows that a page looks at; None: as many as it takes."""
    if filters.search is None or _is_indexed(session, filters):
        return None
    return min(filters.search, searching.AT_MOST_COMPARED) if filters.duplicates else filters.search


def _is_indexed(session: Session, filters: ListFilters) -> bool:
    """Whether an index has what is asked for."""
    named = (filters.connection_id, filters.user, filters.organization, filters.tags)
    is_rare = filters.status == ConnectionStatus.NEEDS_RECONNECT or filters.failing or filters.unlinked
    if any(named) or is_rare or _bounds(filters):
        return True
    return filters.query is not None and connection_search.is_indexed(session, filters.query)


def _bounds(filters: ListFilters) -> list[ColumnElement[bool]]:
    """Conditions on when token and grant lapse."""
    found: list[ColumnElement[bool]] = []
    for column, after, before in (
        (Connection.expires_at, filters.expires_after, filters.expires_before),
        (Connection.grant_expires_at, filters.grant_after, filters.grant_before),
    ):
        if after is not None:
            found.append(column >= after)
        if before is not None:
            found.append(column < before)
    return found


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
    connection: Connection,
    link: Link | None,
    user: User | None,
    organization: Organization | None,
    refresh: Refresh | None,
) -> dict[str, Any]:
    return {
        "id": show(CONNECTION, connection.id),
        "environment": connection.environment,
        "integration": connection.integration,
        "connection_id": connection.connection_id,
        "provider": connection.provider,
        "auth_mode": connection.auth_mode,
        "status": connection.status,
        "tags": connection.tags,
        "user": user.external_id if user else None,
        "organization": organization.external_id if organization else None,
        "linked_by": link.linked_by if link else None,
        "unlinked_reason": connection.unlinked_reason,
        "drift": connection.drift,
        **shown_clocks(connection),
        "refresh_at": shown_time(refresh.refresh_at) if refresh else None,
        "failing_since": shown_time(connection.failing_since),
        "failures": refresh.failures if refresh else None,
        "last_error_type": connection.last_error_type,
        "last_error_at": shown_time(connection.last_error_at),
    }


def shown_clocks(connection: Connection) -> dict[str, Any]:
    """The deadlines of token and grant, each with its source, or the reason why it is not known."""
    mode, read = connection.auth_mode or "", connection.expires_source is not None
    nothing = unread(mode)
    gone = "the connection is deleted" if connection.status == ConnectionStatus.DELETED else None
    reason = gone or (without_expiry(mode) if read else nothing.access.reason)
    source = connection.expires_source or (ClockSource.PROVIDER if connection.expires_at else ClockSource.UNKNOWN)
    return {
        "expires_at": shown_time(connection.expires_at),
        "expires_source": source,
        "expires_reason": None if connection.expires_at else reason,
        "grant_expires_at": shown_time(connection.grant_expires_at),
        "grant_source": connection.grant_source or ClockSource.UNKNOWN,
        "grant_reason": connection.grant_reason if connection.grant_source else gone or nothing.grant.reason,
        "not_refreshable": connection.not_refreshable or why_not_refreshable(mode),
        "alive_by": connection.alive_by,
    }
