"""Statements on connections and their links."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, User
from app.domain.linking import UnlinkedReason
from app.domain.states import ConnectionStatus
from app.ids import new_id

Key = tuple[str, str, str]  # environment, integration, connection id


@dataclass(slots=True)
class ConnectionRow:
    """A connection while a transaction changes it; `insert` and `update` write it back. Columns: models.Connection."""

    id: UUID
    environment: str
    integration: str
    connection_id: str
    nango_id: int | None
    announced_nango_id: int | None
    provider: str | None
    auth_mode: str | None
    status: str
    tags: dict[str, Any]
    tags_disagree: bool
    drift: str | None
    unlinked_reason: str | None
    wanted_user: str | None
    wanted_email: str | None
    wanted_organization: str | None
    expires_at: datetime | None
    last_error_type: str | None
    last_error_at: datetime | None
    errors_seen_at: datetime | None
    observed_at: datetime | None
    absences: int
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> Key:
        return self.environment, self.integration, self.connection_id


@dataclass(frozen=True, slots=True)
class LinkRow:
    """An open link."""

    id: UUID
    connection_ref: UUID
    user_id: UUID | None
    organization_id: UUID | None


_FIELDS: Final = [field.name for field in fields(ConnectionRow)]
_connections: Final = bulk.table(Connection)
_key: Final = [_connections.c.environment, _connections.c.integration, _connections.c.connection_id]
values: Final = attrgetter(*_FIELDS)  # of a ConnectionRow, to see later whether it was changed


def new(key: Key, *, now: datetime) -> ConnectionRow:
    """A connection that is not in the database yet."""
    environment, integration, connection_id = key
    nothing: Any = dict.fromkeys(_FIELDS)
    return ConnectionRow(
        **nothing
        | {
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
    )


def lock(session: Session, keys: Collection[Key]) -> dict[Key, ConnectionRow]:
    """The connections with these keys, locked in sorted order so that two workers cannot deadlock."""
    if not keys:
        return {}
    found = _found(session, _locking(bulk.dialect(session)), bulk.keys(keys))
    return {one.key: one for one in found}


def lock_one(session: Session, connection_ref: UUID) -> ConnectionRow | None:
    statement = select(*bulk.columns(Connection, ConnectionRow)).where(_connections.c.id == connection_ref)
    found = _found(session, statement.with_for_update())
    return found[0] if found else None


def lock_waiting(session: Session, *, limit: int) -> list[ConnectionRow]:
    """Unlinked connections for which whom they miss exists by now, locked in sorted order."""
    row = _connections.c
    user = exists().where(User.external_id == row.wanted_user)
    email = exists().where(func.lower(User.email) == row.wanted_email)
    organization = exists().where(Organization.external_id == row.wanted_organization)
    missed_exists = or_(
        and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_USER, user),
        and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_EMAIL, email),
        and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_ORGANIZATION, organization),
    )
    waiting = select(*bulk.columns(Connection, ConnectionRow)).where(row.status != ConnectionStatus.DELETED)
    statement = waiting.where(missed_exists).order_by(*_key).limit(limit).with_for_update(skip_locked=True)
    return _found(session, statement)


def insert(session: Session, connections: Iterable[ConnectionRow]) -> None:
    """Add connections, in sorted order. Raises IntegrityError where another worker made one of them meanwhile."""
    bulk.insert(session, Connection, [_row(one) for one in sorted(connections, key=lambda one: one.key)])


def update(session: Session, connections: Iterable[ConnectionRow]) -> None:
    """Write back connections that are locked."""
    bulk.update(session, Connection, [_row(one) for one in connections])


def open_links(session: Session, connection_refs: Collection[UUID]) -> dict[UUID, LinkRow]:
    """The open link of each connection that has one, by the connection's own id."""
    if not connection_refs:
        return {}
    found = session.execute(_open_links(bulk.dialect(session)), bulk.keys(connection_refs))
    return {link.connection_ref: link for link in (LinkRow(*row) for row in found)}


def write_links(session: Session, *, closed: Sequence[bulk.Row], opened: Sequence[bulk.Row]) -> None:
    """Closed ones first: the schema allows one open link per connection."""
    bulk.update(session, Link, closed)
    bulk.insert(session, Link, opened)


@cache
def _locking(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Connection, ConnectionRow)).where(bulk.among(dialect, *_key))
    return chosen.order_by(*_key).with_for_update()


@cache
def _open_links(dialect: str) -> Select[Any]:
    links = bulk.table(Link).c
    chosen = select(*bulk.columns(Link, LinkRow)).where(bulk.among(dialect, links.connection_ref))
    return chosen.where(links.closed_at.is_(None))


def _found(session: Session, statement: Select[Any], keys: Mapping[str, str] | None = None) -> list[ConnectionRow]:
    return [ConnectionRow(*row) for row in session.execute(statement, keys)]


def _row(connection: ConnectionRow) -> bulk.Row:
    return dict(zip(_FIELDS, values(connection), strict=True))
