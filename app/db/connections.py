"""Statements on connections and their links."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, User
from app.domain.linking import Owner, UnlinkedReason
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
    known_tags: dict[str, Any] | None
    unlinked_reason: str | None
    superseded_by: UUID | None
    wanted_user: str | None
    wanted_email: str | None
    wanted_organization: str | None
    owner_look_at: datetime | None
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


@dataclass(slots=True)
class Appeared:
    """By what connections may know users and organizations that were just added or changed: external ids, e-mails."""

    users: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)  # in lower case
    organizations: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.users or self.emails or self.organizations)


_FIELDS: Final = [one.name for one in fields(ConnectionRow)]
_connections: Final = bulk.table(Connection)
_links: Final = bulk.table(Link)
_turn: Final = select(func.pg_advisory_xact_lock(literal(0x7761796C696E6B03)))
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


def get(session: Session, connection_ref: UUID) -> ConnectionRow | None:
    """The connection of this id, not locked."""
    found = _found(session, _by_id(connection_ref))
    return found[0] if found else None


def lock(session: Session, keys: Collection[Key]) -> dict[Key, ConnectionRow]:
    """The connections with these keys, locked in sorted order so that two workers cannot deadlock."""
    if not keys:
        return {}
    found = _found(session, _locking(bulk.dialect(session)), bulk.keys(keys))
    return {one.key: one for one in found}


def lock_by_id(session: Session, connection_ref: UUID) -> ConnectionRow | None:
    found = _found(session, _by_id(connection_ref).with_for_update())
    return found[0] if found else None


def lock_waiting(
    session: Session, *, limit: int, appeared: Appeared | None = None, after: Key | None = None
) -> list[ConnectionRow]:
    """Unlinked connections for which whom they miss exists by now, locked in sorted order.

    appeared: only those that miss one of these. after: only those with a greater key.
    """
    missed_exists = _missed_exists() if appeared is None else _misses(appeared)
    waiting = select(*bulk.columns(Connection, ConnectionRow)).where(
        _connections.c.status != ConnectionStatus.DELETED, missed_exists
    )
    if after is not None:
        waiting = waiting.where(tuple_(*_key) > tuple_(*(literal(part) for part in after)))
    return _found(session, waiting.order_by(*_key).limit(limit).with_for_update(skip_locked=True))


def claim_owner_looks(session: Session, *, limit: int, now: datetime, lease: timedelta) -> list[ConnectionRow]:
    """Take up to `limit` unlinked connections about which the application's database is to be asked again."""
    due = select(*bulk.columns(Connection, ConnectionRow)).where(
        _connections.c.owner_look_at <= now, _connections.c.unlinked_reason.is_not(None)
    )
    taken = _found(session, due.order_by(_connections.c.owner_look_at).limit(limit).with_for_update(skip_locked=True))
    for one in taken:
        one.owner_look_at = now + lease
    bulk.update(session, Connection, [{"id": one.id, "owner_look_at": one.owner_look_at} for one in taken])
    return taken


def _missed_exists() -> ColumnElement[bool]:
    row = _connections.c
    user = exists().where(User.external_id == row.wanted_user, User.removed_at.is_(None))
    email = exists().where(func.lower(User.email) == row.wanted_email, User.removed_at.is_(None))
    organization = exists().where(
        Organization.external_id == row.wanted_organization, Organization.removed_at.is_(None)
    )
    return or_(
        and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_USER, user),
        and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_EMAIL, email),
        and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_ORGANIZATION, organization),
    )


def _misses(appeared: Appeared) -> ColumnElement[bool]:
    """An e-mail that named several may name one by now, where somebody gave it up."""
    row = _connections.c
    by_email = (UnlinkedReason.UNKNOWN_EMAIL, UnlinkedReason.AMBIGUOUS_EMAIL)
    return and_(
        row.unlinked_reason.is_not(None),  # said once more, so that the partial indexes are seen to hold these rows
        or_(
            and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_USER, row.wanted_user.in_(appeared.users)),
            and_(row.unlinked_reason.in_(by_email), row.wanted_email.in_(appeared.emails)),
            and_(
                row.unlinked_reason == UnlinkedReason.UNKNOWN_ORGANIZATION,
                row.wanted_organization.in_(appeared.organizations),
            ),
        ),
    )


def wait_for_turn(session: Session) -> None:
    """One transaction at a time decides which of an owner's connections keeps its link; ask before any row is locked.

    Without it, two workers that make one connection each of the same owner would not see each other's.
    """
    if bulk.dialect(session) == "postgresql":  # on SQLite whoever writes is alone anyway
        session.execute(_turn)


def lock_linked(session: Session, owners: Collection[tuple[str, str, Owner]]) -> list[ConnectionRow]:
    """The live connections that are linked to just these owners, by (environment, integration, owner), locked."""
    found: dict[UUID, ConnectionRow] = {}
    of_users = {(place[0], place[1], place[2].user_id) for place in owners if place[2].user_id}
    of_organizations = {(place[0], place[1], place[2].organization_id) for place in owners if not place[2].user_id}
    for column, wanted in ((_links.c.user_id, of_users), (_links.c.organization_id, of_organizations)):
        if wanted:
            statement = _linked(bulk.dialect(session), column)
            found |= {one.id: one for one in _found(session, statement, bulk.keys(wanted))}
    return list(found.values())


def lock_superseded(session: Session, links: Collection[UUID]) -> list[ConnectionRow]:
    """The live connections whose place these links took, locked in sorted order."""
    if not links:
        return []
    statement = select(*bulk.columns(Connection, ConnectionRow)).where(
        bulk.among(bulk.dialect(session), _connections.c.superseded_by),
        _connections.c.superseded_by.is_not(None),  # said once more, so that the partial index is seen to hold them
        _connections.c.status != ConnectionStatus.DELETED,
    )
    return _found(session, statement.order_by(*_key).with_for_update(), bulk.keys(links))


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


def _by_id(connection_ref: UUID) -> Select[Any]:
    return select(*bulk.columns(Connection, ConnectionRow)).where(_connections.c.id == connection_ref)


@cache
def _locking(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Connection, ConnectionRow)).where(bulk.among(dialect, *_key))
    return chosen.order_by(*_key).with_for_update()


@cache
def _linked(dialect: str, column: ColumnElement[Any]) -> Select[Any]:
    chosen = select(*bulk.columns(Connection, ConnectionRow)).join(_links, _links.c.connection_ref == _connections.c.id)
    wanted = bulk.among(dialect, _connections.c.environment, _connections.c.integration, column)
    living = chosen.where(wanted, _links.c.closed_at.is_(None), _connections.c.status != ConnectionStatus.DELETED)
    return living.order_by(*_key).with_for_update(of=_connections)


@cache
def _open_links(dialect: str) -> Select[Any]:
    links = bulk.table(Link).c
    chosen = select(*bulk.columns(Link, LinkRow)).where(bulk.among(dialect, links.connection_ref))
    return chosen.where(links.closed_at.is_(None))


def _found(session: Session, statement: Select[Any], keys: Mapping[str, str] | None = None) -> list[ConnectionRow]:
    return [ConnectionRow(*row) for row in session.execute(statement, keys)]


def _row(connection: ConnectionRow) -> bulk.Row:
    return dict(zip(_FIELDS, values(connection), strict=True))
