"""Statements on connections, their links and their owners."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import and_, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session

from app.db.events import insert_for
from app.db.models import Connection, Link, Organization, User
from app.domain.linking import UnlinkedReason
from app.domain.states import ConnectionStatus
from app.ids import new_id

Key = tuple[str, str, str]  # environment, integration, connection id


def lock(session: Session, keys: Collection[Key]) -> dict[Key, Connection]:
    """The connections with these keys, locked in sorted order so that two workers cannot deadlock."""
    if not keys:
        return {}
    columns = (Connection.environment, Connection.integration, Connection.connection_id)
    statement = select(Connection).where(tuple_(*columns).in_(sorted(keys))).order_by(*columns).with_for_update()
    found = session.scalars(statement.execution_options(populate_existing=True))
    return {(one.environment, one.integration, one.connection_id): one for one in found}


def ensure(session: Session, keys: Collection[Key], *, now: datetime) -> dict[Key, Connection]:
    """The same, after making those that do not exist yet. Two workers may try at once: one row comes of it."""
    if not keys:
        return {}
    fresh = [
        {
            "id": new_id(),
            "environment": environment,
            "integration": integration,
            "connection_id": connection_id,
            "status": ConnectionStatus.UNCONFIRMED,
            "tags": {},
            "tags_disagree": False,
            "absences": 0,
            "created_at": now,
            "updated_at": now,
        }
        for environment, integration, connection_id in sorted(keys)
    ]
    session.execute(insert_for(session, Connection).on_conflict_do_nothing(), fresh)
    return lock(session, keys)


def lock_waiting(session: Session, *, limit: int) -> list[Connection]:
    """Unlinked connections for which whom they miss exists by now, locked in sorted order."""
    user = exists().where(User.external_id == Connection.wanted_user)
    email = exists().where(func.lower(User.email) == Connection.wanted_email)
    organization = exists().where(Organization.external_id == Connection.wanted_organization)
    missed_exists = or_(
        and_(Connection.unlinked_reason == UnlinkedReason.UNKNOWN_USER, user),
        and_(Connection.unlinked_reason == UnlinkedReason.UNKNOWN_EMAIL, email),
        and_(Connection.unlinked_reason == UnlinkedReason.UNKNOWN_ORGANIZATION, organization),
    )
    statement = (
        select(Connection)
        .where(Connection.status != ConnectionStatus.DELETED, missed_exists)
        .order_by(Connection.environment, Connection.integration, Connection.connection_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(session.scalars(statement))


def open_links(session: Session, connections: Iterable[Connection]) -> dict[UUID, Link]:
    """The open link of each connection that has one, by the connection's own id."""
    ids = [one.id for one in connections]
    found = session.scalars(select(Link).where(Link.connection_ref.in_(ids), Link.closed_at.is_(None)))
    return {link.connection_ref: link for link in found}


def users_by_external_id(session: Session, external_ids: Collection[str]) -> dict[str, User]:
    return {user.external_id: user for user in session.scalars(select(User).where(User.external_id.in_(external_ids)))}


def users_by_email(session: Session, emails: Collection[str]) -> dict[str, list[User]]:
    """Users by lower-cased e-mail; several may share one."""
    lowered = func.lower(User.email)
    found: dict[str, list[User]] = {}
    for user in session.scalars(select(User).where(lowered.in_({email.lower() for email in emails}))):
        found.setdefault((user.email or "").lower(), []).append(user)
    return found


def organizations_by_external_id(session: Session, external_ids: Collection[str]) -> dict[str, Organization]:
    found = session.scalars(select(Organization).where(Organization.external_id.in_(external_ids)))
    return {organization.external_id: organization for organization in found}


def add_users(session: Session, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the users, by external id, that do not exist yet."""
    if rows:
        values = [{"id": new_id(), **rows[external_id]} for external_id in sorted(rows)]
        session.execute(insert_for(session, User).on_conflict_do_nothing(index_elements=["external_id"]), values)


def add_organizations(session: Session, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the organizations, by external id, that do not exist yet."""
    if rows:
        values = [{"id": new_id(), **rows[external_id]} for external_id in sorted(rows)]
        statement = insert_for(session, Organization).on_conflict_do_nothing(index_elements=["external_id"])
        session.execute(statement, values)


def owners_of(session: Session, links: Iterable[Link]) -> tuple[dict[UUID, User], dict[UUID, Organization]]:
    """The users and organizations that links point to, by their ids."""
    listed = list(links)
    user_ids = {link.user_id for link in listed if link.user_id}
    organization_ids = {link.organization_id for link in listed if link.organization_id}
    users = {user.id: user for user in session.scalars(select(User).where(User.id.in_(user_ids)))}
    organizations = {
        one.id: one for one in session.scalars(select(Organization).where(Organization.id.in_(organization_ids)))
    }
    return users, organizations
