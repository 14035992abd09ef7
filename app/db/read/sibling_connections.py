"""Connections of one owner to one integration, where there are several live ones."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from app.db.models import Connection, Link
from app.domain.linking import Owner
from app.domain.states import ConnectionStatus
from app.ids import CONNECTION, show

SHOWN: Final = 50


def is_one_of_several() -> ColumnElement[bool]:
    """A condition on `Connection`, outer-joined with its open `Link`: another connection is linked to the same owner,
    or one of the two superseded the other.
    """
    other, link = aliased(Connection), aliased(Link)
    shares = exists().where(*_same_place(other), link.connection_ref == other.id, *_same_owner(link, Link))
    is_conflict = exists().where(other.superseded_by == Link.id, other.status != ConnectionStatus.DELETED)
    one_of_them = or_(Connection.superseded_by.is_not(None), is_conflict, shares)
    return and_(Connection.status != ConnectionStatus.DELETED, one_of_them)


@dataclass(frozen=True, slots=True)
class OwnerIntegration:
    """An owner at one integration of an environment."""

    environment: str
    integration: str
    owner: Owner


def shared_places(session: Session) -> list[tuple[OwnerIntegration, int]]:
    """Owners with several linked connections that live in Nango, and their number. Reads all open links."""
    place = Connection.environment, Connection.integration, Link.user_id, Link.organization_id
    shared = (
        select(*place, func.count())
        .join(Link, and_(Link.connection_ref == Connection.id, Link.closed_at.is_(None)))
        .where(Connection.status != ConnectionStatus.DELETED, Connection.nango_id.is_not(None))
        .group_by(*place)
        .having(func.count() > 1)
        .order_by(*place)
    )
    return [
        (OwnerIntegration(environment, integration, Owner(user_id, organization_id)), count)
        for environment, integration, user_id, organization_id, count in session.execute(shared)
    ]


def siblings(session: Session, connection_ref: UUID) -> list[dict[str, Any]]:
    """The owner's other live connections to the integration, newest first, up to SHOWN.

    `linked` is False for those that a newer one superseded (policy `supersede`).
    """
    connection = session.get_one(Connection, connection_ref)
    if connection.status == ConnectionStatus.DELETED:
        return []
    own = select(Link).where(Link.connection_ref == connection.id, Link.closed_at.is_(None))
    newer = select(Link).where(Link.id == connection.superseded_by)
    link = session.scalar(own if connection.superseded_by is None else newer)
    if link is None:
        return []
    # The owner's connections first, each way by its index: an alternative of both would read the integration's.
    # SQLAlchemy turns a comparison with None into IS NULL.
    same = Link.user_id == link.user_id, Link.organization_id == link.organization_id
    owned = select(Link.connection_ref).where(Link.closed_at.is_(None), *same)
    superseded = select(Connection.id).where(Connection.superseded_by == link.id)
    statement = _living(connection).where(Connection.id.in_(owned.union_all(superseded)))
    found = session.execute(statement.order_by(Connection.nango_id.desc(), Connection.id.desc()).limit(SHOWN))
    return [
        {
            "id": show(CONNECTION, other.id),
            "connection_id": other.connection_id,
            "status": other.status,
            "linked": other.superseded_by is None,
        }
        for (other,) in found
    ]


def _living(connection: Connection) -> Select[Any]:
    return select(Connection).where(
        Connection.environment == connection.environment,
        Connection.integration == connection.integration,
        Connection.status != ConnectionStatus.DELETED,
        Connection.id != connection.id,
    )


def _same_place(other: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        other.environment == Connection.environment,
        other.integration == Connection.integration,
        other.id != Connection.id,
        other.status != ConnectionStatus.DELETED,
    )


def _same_owner(link: Any, ours: Any) -> tuple[ColumnElement[bool], ...]:
    """Equality of user and organization together, each of which may be null."""
    return (
        link.closed_at.is_(None),
        or_(link.user_id == ours.user_id, and_(link.user_id.is_(None), ours.user_id.is_(None))),
        or_(
            link.organization_id == ours.organization_id,
            and_(link.organization_id.is_(None), ours.organization_id.is_(None)),
        ),
    )
