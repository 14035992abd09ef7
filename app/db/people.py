"""Statements on users and organizations that are managed by hand: list, find, write, remove."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, exists, func, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.connections import ConnectionKey
from app.db.models import Connection, Link, Organization, User
from app.db.read import searching
from app.domain.people import OwnerKind
from app.errors import NotFound
from app.ids import CONNECTION, ORGANIZATION, USER, new_id, show

PREFIX: Final = {OwnerKind.USER: USER, OwnerKind.ORGANIZATION: ORGANIZATION}
MODEL: Final[Mapping[OwnerKind, type[User] | type[Organization]]] = {
    OwnerKind.USER: User,
    OwnerKind.ORGANIZATION: Organization,
}
_OWNER: Final = {OwnerKind.USER: Link.user_id, OwnerKind.ORGANIZATION: Link.organization_id}
LINKS_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class PeopleFilters:
    """Exact matches, the e-mail in any case; None is any. `before` continues a list after that id."""

    limit: int = 50
    before: UUID | None = None
    external_id: str | None = None
    email: str | None = None
    organization: str | None = None  # users: of the organization with this external id
    removed: bool = False  # only removed ones, instead of none
    unconnected: bool = False  # only those without an open link
    search: int | None = None  # rows that are looked at for these; None: as many as it takes


@dataclass(frozen=True, slots=True)
class StoredOwner:
    """Stored fields of a user or organization; a user's organization by its external id."""

    id: UUID
    fields: Mapping[str, str | None]


def shown_id(kind: OwnerKind, id_: UUID) -> str:
    """The public id, `usr_…` or `org_…`."""
    return show(PREFIX[kind], id_)


def listing(session: Session, kind: OwnerKind, filters: PeopleFilters) -> searching.Page:
    """Rows, newest first."""
    model = MODEL[kind]
    removed = model.removed_at.is_not(None) if filters.removed else model.removed_at.is_(None)
    statement = _shown(kind).where(removed).order_by(model.id.desc()).limit(filters.limit)
    if filters.before is not None:
        statement = statement.where(model.id < filters.before)
    if filters.external_id is not None:
        column = model.former_external_id if filters.removed else model.external_id
        statement = statement.where(column == filters.external_id)
    if filters.email is not None:
        statement = statement.where(func.lower(User.email) == filters.email.lower())
    if filters.organization is not None:
        statement = statement.where(Organization.external_id == filters.organization)

    def read(statement: Select[Any]) -> list[dict[str, Any]]:
        return [_row(kind, *row) for row in session.execute(statement)]

    if not filters.unconnected:
        return searching.Page(read(statement))
    open_link = exists().where(_OWNER[kind] == model.id, Link.closed_at.is_(None))
    place = searching.Place(before=filters.before, limit=filters.limit, search=filters.search)
    return searching.page_of(session, statement.where(~open_link), model.id, PREFIX[kind], place=place, read=read)


def get(session: Session, kind: OwnerKind, id_: UUID) -> dict[str, Any]:
    """A user or organization with its links, open and closed, newest first, LINKS_SHOWN at most. Raises NotFound."""
    found = session.execute(_shown(kind).where(MODEL[kind].id == id_)).first()
    if found is None:
        raise NotFound(kind, shown_id(kind, id_))
    links = session.execute(
        select(Link, Connection)
        .join(Connection, Connection.id == Link.connection_ref)
        .where(_OWNER[kind] == id_)
        .order_by(Link.id.desc())
        .limit(LINKS_SHOWN)
    )
    return _row(kind, *found) | {"links": [_link(*row) for row in links]}


def find(session: Session, kind: OwnerKind, external_id: str) -> UUID:
    """Our id of the one that has this external id now. Raises NotFound."""
    model = MODEL[kind]
    id_: UUID | None = session.scalar(
        select(model.id).where(model.external_id == external_id, model.removed_at.is_(None))
    )
    if id_ is None:
        raise NotFound(kind, external_id)
    return id_


def lock(session: Session, kind: OwnerKind, external_ids: Collection[str]) -> dict[str, StoredOwner]:
    """Those with these external ids, locked in sorted order."""
    return _locked(session, kind, bulk.table(MODEL[kind]).c.external_id, external_ids)


def lock_by_id(session: Session, kind: OwnerKind, id_: UUID) -> StoredOwner:
    """Lock a user or organization. Raises NotFound, also for a removed one."""
    found = _locked(session, kind, bulk.table(MODEL[kind]).c.id, [id_])
    if not found:
        raise NotFound(kind, shown_id(kind, id_))
    return next(iter(found.values()))


def organization_ids(session: Session, external_ids: Collection[str]) -> dict[str, UUID]:
    """Our ids of organizations by external id."""
    if not external_ids:
        return {}
    columns = bulk.table(Organization).c
    wanted = select(columns.external_id, columns.id).where(
        bulk.among(bulk.dialect(session), columns.external_id), columns.removed_at.is_(None)
    )
    return {row.external_id: row.id for row in session.execute(wanted, bulk.keys(external_ids))}


def add(session: Session, kind: OwnerKind, rows: Collection[bulk.Row]) -> bool:
    """Insert rows. False when another transaction has added one of them meanwhile, which then stays."""
    ordered = sorted(rows, key=lambda row: str(row["external_id"]))
    return bulk.insert(session, MODEL[kind], ordered, skip_existing=True) == len(rows)


def change(session: Session, kind: OwnerKind, rows: Collection[bulk.Row]) -> None:
    """Write these columns of locked rows; each row has its `id`."""
    bulk.update(session, MODEL[kind], list(rows))


def new_row(kind: OwnerKind, *, now: datetime) -> dict[str, Any]:
    """A row with empty fields."""
    row: dict[str, Any] = {"id": new_id(), "external_id": "", "created_at": now}
    return row | (
        {"email": None, "display_name": None, "organization_id": None} if kind is OwnerKind.USER else {"name": None}
    )


def open_links(session: Session, kind: OwnerKind, id_: UUID) -> int:
    """Number of connections that belong to the user or organization."""
    owned = select(func.count()).select_from(Link).where(_OWNER[kind] == id_, Link.closed_at.is_(None))
    return session.scalar(owned) or 0


def owned_connections(session: Session, kind: OwnerKind, id_: UUID, *, limit: int) -> list[ConnectionKey]:
    """Keys of up to `limit` of its connections."""
    owned = (
        select(Connection.environment, Connection.integration, Connection.connection_id)
        .join(Link, Link.connection_ref == Connection.id)
        .where(_OWNER[kind] == id_, Link.closed_at.is_(None))
        .limit(limit)
    )
    return [ConnectionKey(*row) for row in session.execute(owned)]


def count_users(session: Session, kind: OwnerKind, id_: UUID, *, removed: bool = False) -> int:
    """Number of an organization's users. removed: number of its removed users, whose rows still refer to it."""
    if kind is OwnerKind.USER:
        return 0
    there = User.removed_at.is_not(None) if removed else User.removed_at.is_(None)
    return session.scalar(select(func.count()).select_from(User).where(User.organization_id == id_, there)) or 0


def release_users(session: Session, kind: OwnerKind, id_: UUID, *, limit: int, removed: bool = False) -> int:
    """Remove up to `limit` users from an organization. removed: removed users. Returns their number."""
    if kind is OwnerKind.USER:
        return 0
    columns = bulk.table(User).c
    there = columns.removed_at.is_not(None) if removed else columns.removed_at.is_(None)
    members = select(columns.id).where(columns.organization_id == id_, there).order_by(columns.external_id).limit(limit)
    found = session.scalars(members.with_for_update()).all()
    bulk.update(session, User, [{"id": user_id, "organization_id": None} for user_id in found])
    return len(found)


def is_in_use(session: Session, kind: OwnerKind, id_: UUID) -> bool:
    """Whether open links refer to it, or users, removed ones included."""
    uses = [select(Link.id).where(_OWNER[kind] == id_, Link.closed_at.is_(None))]
    if kind is OwnerKind.ORGANIZATION:
        uses.append(select(User.id).where(User.organization_id == id_))
    return any(session.scalar(use.limit(1)) is not None for use in uses)


def has_history(session: Session, kind: OwnerKind, id_: UUID) -> bool:
    """Whether links refer to the row, closed ones included."""
    return session.scalar(select(Link.id).where(_OWNER[kind] == id_).limit(1)) is not None


def delete(session: Session, kind: OwnerKind, id_: UUID) -> None:
    """Delete a row that no other row refers to."""
    session.execute(bulk.table(MODEL[kind]).delete().where(bulk.table(MODEL[kind]).c.id == id_))


def retire(session: Session, kind: OwnerKind, stored: StoredOwner, *, now: datetime) -> None:
    """Keep the row for the history, under an external id that no tag can have; a new row may take the old one."""
    table = bulk.table(MODEL[kind])
    former = stored.fields["external_id"]
    values = {"external_id": tombstone(stored.id), "former_external_id": former, "removed_at": now}
    session.execute(update(table).where(table.c.id == stored.id).values(values))


def tombstone(id_: UUID) -> str:
    """The external id of a removed row. Other rows cannot have it, since blanks at the ends are refused."""
    return f" removed {id_.hex} "


def _locked(session: Session, kind: OwnerKind, column: Any, values: Collection[object]) -> dict[str, StoredOwner]:
    if not values:
        return {}
    table = bulk.table(MODEL[kind])
    shown = [table.c[name] for name in ("id", "external_id", *_plain(kind))]
    locking = select(*shown).where(bulk.among(bulk.dialect(session), column), table.c.removed_at.is_(None))
    ordered = locking.order_by(table.c.external_id).with_for_update()
    rows = session.execute(ordered, bulk.keys(values)).all()
    names = _organization_names(session, kind, rows)
    found = {}
    for row in rows:
        fields = dict(zip(("external_id", *_plain(kind)), row[1:], strict=True))
        if kind is OwnerKind.USER:
            fields["organization"] = names.get(fields.pop("organization_id"))
        found[row[1]] = StoredOwner(row[0], fields)
    return found


def _plain(kind: OwnerKind) -> tuple[str, ...]:
    return ("email", "display_name", "organization_id") if kind is OwnerKind.USER else ("name",)


def _organization_names(session: Session, kind: OwnerKind, rows: Collection[Any]) -> dict[UUID, str]:
    """External ids of these users' organizations."""
    ids = {row.organization_id for row in rows if row.organization_id} if kind is OwnerKind.USER else set()
    if not ids:
        return {}
    columns = bulk.table(Organization).c
    wanted = select(columns.id, columns.external_id).where(bulk.among(bulk.dialect(session), columns.id))
    return {row.id: row.external_id for row in session.execute(wanted, bulk.keys(ids))}


def _shown(kind: OwnerKind) -> Select[Any]:
    model = MODEL[kind]
    owned = (
        select(func.count())
        .select_from(Link)
        .where(_OWNER[kind] == model.id, Link.closed_at.is_(None))
        .correlate(model)
        .scalar_subquery()
    )
    if kind is OwnerKind.ORGANIZATION:
        users = select(func.count()).select_from(User).where(User.organization_id == Organization.id)
        present = users.where(User.removed_at.is_(None)).correlate(Organization).scalar_subquery()
        return select(Organization, owned, present)
    return select(User, owned, Organization.external_id).outerjoin(
        Organization, Organization.id == User.organization_id
    )


def _row(kind: OwnerKind, row: Any, owned: int, other: Any) -> dict[str, Any]:
    """A row of a list. other: a user's organization by external id; an organization's number of users."""
    own = (
        {"email": row.email, "display_name": row.display_name, "organization": other}
        if kind is OwnerKind.USER
        else {"name": row.name, "users": other}
    )
    return {
        "id": shown_id(kind, row.id),
        "external_id": row.former_external_id if row.removed_at else row.external_id,
        **own,
        "connections": owned,
        "created_at": _time(row.created_at),
        "updated_at": _time(row.updated_at),
        "removed_at": _time(row.removed_at),
    }


def _link(link: Link, connection: Connection) -> dict[str, Any]:
    return {
        "connection": show(CONNECTION, connection.id),
        "integration": connection.integration,
        "connection_id": connection.connection_id,
        "linked_by": link.linked_by,
        "opened_at": _time(link.opened_at),
        "closed_at": _time(link.closed_at),
        "close_reason": link.close_reason,
    }


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
