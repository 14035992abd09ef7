"""Statements on connections and their links."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Link, Organization, User
from app.domain.linking import Owner, UnlinkedReason
from app.domain.refreshing.clocks import told_expiry
from app.domain.refreshing.facts import RefreshFacts
from app.domain.repairs import failing_since
from app.domain.states import ConnectionStatus
from app.ids import new_id

_FACTS: Final = tuple(field.name for field in fields(RefreshFacts))


class ConnectionKey(NamedTuple):
    """The key of a connection. Nango's connection ids are unique within an integration of an environment."""

    environment: str
    integration: str
    connection_id: str


class ConnectionState(Struct):
    """A connection's columns, changed in memory and written by `insert` and `update`. Columns: models.Connection."""

    id: UUID
    environment: str
    integration: str
    connection_id: str
    status: str
    tags: dict[str, Any]
    tags_disagree: bool
    absences: int
    created_at: datetime
    updated_at: datetime
    nango_id: int | None = None
    announced_nango_id: int | None = None
    provider: str | None = None
    auth_mode: str | None = None
    drift: str | None = None
    known_tags: dict[str, Any] | None = None
    unlinked_reason: str | None = None
    superseded_by: UUID | None = None
    wanted_user: str | None = None
    wanted_email: str | None = None
    wanted_organization: str | None = None
    owner_look_at: datetime | None = None
    expires_at: datetime | None = None
    expires_source: str | None = None
    grant_expires_at: datetime | None = None
    grant_source: str | None = None
    grant_reason: str | None = None
    renewed_at: datetime | None = None
    authorized_at: datetime | None = None
    not_refreshable: str | None = None
    slot: int | None = None
    announced_expiry: datetime | None = None
    announced_grant: datetime | None = None
    alive_by: str | None = None
    last_error_type: str | None = None
    last_error_at: datetime | None = None
    failing_since: datetime | None = None
    failure_shape: str | None = None
    failure_event_id: UUID | None = None
    failure_at: datetime | None = None
    calls_since: datetime | None = None
    calls: int | None = None
    errors_seen_at: datetime | None = None
    observed_at: datetime | None = None

    @property
    def key(self) -> ConnectionKey:
        return ConnectionKey(self.environment, self.integration, self.connection_id)

    @property
    def refresh_facts(self) -> RefreshFacts:
        """The facts that its refreshes need and change."""
        return RefreshFacts(**{name: getattr(self, name) for name in _FACTS})

    def take_over(self, facts: RefreshFacts) -> None:
        """Take over what a refresh has concluded."""
        for name in _FACTS:
            setattr(self, name, getattr(facts, name))

    def note_error(self, kind: str, at: datetime) -> None:
        """Record an error of its renewal; it is failing since the first one that nothing has ended."""
        self.failing_since = failing_since(self.last_error_type, self.last_error_at, self.failing_since, now=at)
        self.last_error_type, self.last_error_at = kind, at

    def clear_error(self) -> None:
        """Forget its errors, which are over."""
        self.last_error_type = self.last_error_at = self.failing_since = None
        self.failure_shape = self.failure_event_id = self.failure_at = None

    @property
    def told_expiry(self) -> datetime | None:
        """The expiry as Nango knows it; None where it is estimated."""
        return told_expiry(self.expires_at, self.expires_source)

    def forget_token(self, *, authorized_at: datetime | None = None) -> None:
        """Forget the times of a token that another one replaces. authorized_at: when that was, where it was seen."""
        self.expires_at = self.expires_source = None
        self.grant_expires_at = self.grant_source = self.grant_reason = None
        self.renewed_at = self.authorized_at = authorized_at
        self.not_refreshable = self.announced_expiry = self.announced_grant = self.alive_by = None


class OpenLink(Struct, frozen=True):
    """An open link."""

    id: UUID
    connection_ref: UUID
    user_id: UUID | None
    organization_id: UUID | None


@dataclass(slots=True)
class Appeared:
    """External ids and e-mails of users and organizations that were just added or changed."""

    users: set[str] = field(default_factory=set)  # external ids
    emails: set[str] = field(default_factory=set)  # in lower case
    organizations: set[str] = field(default_factory=set)  # external ids

    def __bool__(self) -> bool:
        return bool(self.users or self.emails or self.organizations)


_connections: Final = bulk.table(Connection)
_links: Final = bulk.table(Link)
_key: Final = [_connections.c.environment, _connections.c.integration, _connections.c.connection_id]
values: Final = structs.astuple  # of a ConnectionState, to detect changes


def new(key: ConnectionKey, *, now: datetime) -> ConnectionState:
    """A new connection, not in the database yet."""
    return ConnectionState(
        new_id(),
        *key,
        status=ConnectionStatus.UNCONFIRMED,
        tags={},
        tags_disagree=False,
        absences=0,
        created_at=now,
        updated_at=now,
    )


def get(session: Session, connection_ref: UUID) -> ConnectionState | None:
    """The connection with this id, not locked; None: there is none."""
    rows = _rows(session, _by_id(connection_ref))
    return rows[0] if rows else None


def lock(session: Session, keys: Collection[ConnectionKey]) -> dict[ConnectionKey, ConnectionState]:
    """Lock the connections with these keys, in sorted order against deadlocks. Returns those that exist."""
    if not keys:
        return {}
    rows = _rows(session, _locking(bulk.dialect(session)), bulk.keys(keys))
    return {connection.key: connection for connection in rows}


def lock_by_id(session: Session, connection_ref: UUID) -> ConnectionState | None:
    """Lock the connection with this id; None: there is none."""
    rows = _rows(session, _by_id(connection_ref).with_for_update())
    return rows[0] if rows else None


def lock_by_ids(session: Session, connection_refs: Collection[UUID]) -> dict[UUID, ConnectionState]:
    """Lock the connections with these ids, in sorted order against deadlocks. Returns those that exist."""
    if not connection_refs:
        return {}
    return {row.id: row for row in _rows(session, _locking_ids(bulk.dialect(session)), bulk.keys(connection_refs))}


def lock_waiting(
    session: Session, *, limit: int, appeared: Appeared | None = None, after: ConnectionKey | None = None
) -> list[ConnectionState]:
    """Lock unlinked connections whose user or organization exists by now, in sorted order.

    appeared: only connections that wait for one of these; None: for any. after: only keys greater than this.
    """
    owner_exists = _owner_exists() if appeared is None else _waits_for(appeared)
    waiting = select(*bulk.columns(Connection, ConnectionState)).where(
        _connections.c.status != ConnectionStatus.DELETED, owner_exists
    )
    if after is not None:
        waiting = waiting.where(tuple_(*_key) > tuple_(*(literal(part) for part in after)))
    return _rows(session, waiting.order_by(*_key).limit(limit).with_for_update(skip_locked=True))


def claim_owner_lookups(session: Session, *, limit: int, now: datetime, lease: timedelta) -> list[ConnectionState]:
    """Claim up to `limit` unlinked connections that are due for another owner lookup (directory policy `sql`)."""
    due = select(*bulk.columns(Connection, ConnectionState)).where(
        _connections.c.owner_look_at <= now, _connections.c.unlinked_reason.is_not(None)
    )
    taken = _rows(session, due.order_by(_connections.c.owner_look_at).limit(limit).with_for_update(skip_locked=True))
    for row in taken:
        row.owner_look_at = now + lease
    bulk.update(session, Connection, [{"id": row.id, "owner_look_at": row.owner_look_at} for row in taken])
    return taken


def _owner_exists() -> ColumnElement[bool]:
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


def _waits_for(appeared: Appeared) -> ColumnElement[bool]:
    """Whether a connection waits for one of these. An ambiguous e-mail may have become unambiguous."""
    row = _connections.c
    by_email = (UnlinkedReason.UNKNOWN_EMAIL, UnlinkedReason.AMBIGUOUS_EMAIL)
    return and_(
        row.unlinked_reason.is_not(None),  # repeated, so that the planner uses the partial indexes
        or_(
            and_(row.unlinked_reason == UnlinkedReason.UNKNOWN_USER, row.wanted_user.in_(appeared.users)),
            and_(row.unlinked_reason.in_(by_email), row.wanted_email.in_(appeared.emails)),
            and_(
                row.unlinked_reason == UnlinkedReason.UNKNOWN_ORGANIZATION,
                row.wanted_organization.in_(appeared.organizations),
            ),
        ),
    )


def lock_linked(session: Session, owners: Collection[tuple[str, str, Owner]]) -> list[ConnectionState]:
    """Lock the connections linked to these (environment, integration, owner), except deleted ones."""
    linked: dict[UUID, ConnectionState] = {}
    of_users = {
        (environment, integration, owner.user_id) for environment, integration, owner in owners if owner.user_id
    }
    of_organizations = {
        (environment, integration, owner.organization_id)
        for environment, integration, owner in owners
        if not owner.user_id
    }
    for column, wanted in ((_links.c.user_id, of_users), (_links.c.organization_id, of_organizations)):
        if wanted:
            statement = _linked(bulk.dialect(session), column)
            linked |= {row.id: row for row in _rows(session, statement, bulk.keys(wanted))}
    return list(linked.values())


def lock_superseded(session: Session, links: Collection[UUID]) -> list[ConnectionState]:
    """Lock the connections that these links superseded, in sorted order, except deleted ones."""
    if not links:
        return []
    statement = select(*bulk.columns(Connection, ConnectionState)).where(
        bulk.among(bulk.dialect(session), _connections.c.superseded_by),
        _connections.c.superseded_by.is_not(None),  # repeated, so that the planner uses the partial index
        _connections.c.status != ConnectionStatus.DELETED,
    )
    return _rows(session, statement.order_by(*_key).with_for_update(), bulk.keys(links))


def insert(session: Session, connections: Iterable[ConnectionState]) -> None:
    """Add connections, in sorted order. Raises IntegrityError where another transaction has added one of them."""
    bulk.insert(session, Connection, [structs.asdict(row) for row in sorted(connections, key=attrgetter("key"))])


def update(session: Session, connections: Iterable[ConnectionState]) -> None:
    """Write back locked connections."""
    bulk.update(session, Connection, [structs.asdict(row) for row in connections])


def open_links(session: Session, connection_refs: Collection[UUID]) -> dict[UUID, OpenLink]:
    """The open links of these connections, by the connection's own id."""
    if not connection_refs:
        return {}
    links = bulk.records(session, OpenLink, _open_links(bulk.dialect(session)), bulk.keys(connection_refs))
    return {link.connection_ref: link for link in links}


def write_links(session: Session, *, closed: Sequence[bulk.Row], opened: Sequence[bulk.Row]) -> None:
    """Write closed links, then opened ones: the schema allows one open link per connection."""
    bulk.update(session, Link, closed)
    bulk.insert(session, Link, opened)


def _by_id(connection_ref: UUID) -> Select[Any]:
    return select(*bulk.columns(Connection, ConnectionState)).where(_connections.c.id == connection_ref)


@cache
def _locking(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Connection, ConnectionState)).where(bulk.among(dialect, *_key, search_by=2))
    return chosen.order_by(*_key).with_for_update()


@cache
def _locking_ids(dialect: str) -> Select[Any]:
    chosen = select(*bulk.columns(Connection, ConnectionState)).where(bulk.among(dialect, _connections.c.id))
    return chosen.order_by(*_key).with_for_update()


@cache
def _linked(dialect: str, column: ColumnElement[Any]) -> Select[Any]:
    chosen = select(*bulk.columns(Connection, ConnectionState)).join(
        _links, _links.c.connection_ref == _connections.c.id
    )
    wanted = bulk.among(dialect, _connections.c.environment, _connections.c.integration, column)
    living = chosen.where(wanted, _links.c.closed_at.is_(None), _connections.c.status != ConnectionStatus.DELETED)
    return living.order_by(*_key).with_for_update(of=_connections)


@cache
def _open_links(dialect: str) -> Select[Any]:
    links = bulk.table(Link).c
    chosen = select(*bulk.columns(Link, OpenLink)).where(bulk.among(dialect, links.connection_ref))
    return chosen.where(links.closed_at.is_(None))


def _rows(session: Session, statement: Select[Any], keys: Mapping[str, str] | None = None) -> list[ConnectionState]:
    return bulk.records(session, ConnectionState, statement, keys)
