"""Statements on the local users and organizations."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Organization, User
from app.errors import OwnerRemoved

_users: Final = bulk.table(User)
_lower_email: Final = func.lower(_users.c.email, type_=Text())
_organizations: Final = bulk.table(Organization)


@dataclass(slots=True)
class UserRow:
    """A user as the database has it. Changes in memory are written by `complete_users`."""

    id: UUID
    external_id: str
    email: str | None
    display_name: str | None
    organization_id: UUID | None


@dataclass(slots=True)
class OrganizationRow:
    """An organization as the database has it. Changes in memory are written by `complete_organizations`."""

    id: UUID
    external_id: str
    name: str | None


_user: Final = bulk.columns(User, UserRow)
_organization: Final = bulk.columns(Organization, OrganizationRow)


def users_by_external_id(session: Session, external_ids: Collection[str]) -> dict[str, UserRow]:
    """Of those who were not removed, as in all that is looked up by what others call them."""
    return {user.external_id: user for user in _find_users(session, _users.c.external_id, external_ids)}


def users_by_email(session: Session, emails: Collection[str]) -> dict[str, list[UserRow]]:
    """Users by lower-cased e-mail; several may share one."""
    found: dict[str, list[UserRow]] = {}
    for user in _find_users(session, _lower_email, {email.lower() for email in emails}):
        found.setdefault((user.email or "").lower(), []).append(user)
    return found


def users_by_id(session: Session, ids: Collection[UUID]) -> dict[UUID, UserRow]:
    return {user.id: user for user in _find_users(session, _users.c.id, ids)}


def organizations_by_external_id(session: Session, external_ids: Collection[str]) -> dict[str, OrganizationRow]:
    found = _find_organizations(session, _organizations.c.external_id, external_ids)
    return {organization.external_id: organization for organization in found}


def organizations_by_id(session: Session, ids: Collection[UUID]) -> dict[UUID, OrganizationRow]:
    return {one.id: one for one in _find_organizations(session, _organizations.c.id, ids)}


def add_users(session: Session, rows: Sequence[bulk.Row]) -> bool:
    """Make users. False when somebody else has made one of them meanwhile: theirs holds."""
    ordered = sorted(rows, key=lambda row: str(row["external_id"]))
    return bulk.insert(session, User, ordered, skip_existing=True) == len(rows)


def add_organizations(session: Session, rows: Sequence[bulk.Row]) -> bool:
    """Make organizations. False when somebody else has made one of them meanwhile: theirs holds."""
    ordered = sorted(rows, key=lambda row: str(row["external_id"]))
    return bulk.insert(session, Organization, ordered, skip_existing=True) == len(rows)


def lock_users(session: Session, users: Collection[UserRow]) -> None:
    """Lock them in sorted order, and take over what they hold by now. Raises OwnerRemoved."""
    known = {one.id: one for one in users}
    for id_, email, display_name in _lock(session, User, known, "email", "display_name"):
        known[id_].email, known[id_].display_name = email, display_name


def lock_organizations(session: Session, organizations: Collection[OrganizationRow]) -> None:
    """The same of organizations."""
    known = {one.id: one for one in organizations}
    for id_, name in _lock(session, Organization, known, "name"):
        known[id_].name = name


def complete_users(session: Session, users: Collection[UserRow]) -> None:
    """Write e-mail and display name of users that are locked."""
    if users:
        rows = [{"id": one.id, "email": one.email, "display_name": one.display_name} for one in users]
        bulk.update(session, User, rows)


def complete_organizations(session: Session, organizations: Collection[OrganizationRow]) -> None:
    """Write the names of organizations that are locked."""
    if organizations:
        bulk.update(session, Organization, [{"id": one.id, "name": one.name} for one in organizations])


def removed_among(session: Session, users: Collection[UUID], organizations: Collection[UUID]) -> bool:
    """Whether one of them was removed by now.

    On SQLite nobody else writes during a transaction that writes, so that what was read before still holds.
    """
    if bulk.dialect(session) == "sqlite":
        return False
    for model, ids in ((User, users), (Organization, organizations)):
        table = bulk.table(model)
        gone = select(table.c.id).where(bulk.among("postgresql", table.c.id), table.c.removed_at.is_not(None))
        if ids and session.execute(gone.limit(1), bulk.keys(ids)).first() is not None:
            return True
    return False


def _find_users(session: Session, column: ColumnElement[Any], values: Collection[object]) -> list[UserRow]:
    if not values:
        return []
    found = session.execute(_finding(bulk.dialect(session), column, *_user), bulk.keys(values))
    return [UserRow(*row) for row in found]


def _find_organizations(
    session: Session, column: ColumnElement[Any], values: Collection[object]
) -> list[OrganizationRow]:
    if not values:
        return []
    found = session.execute(_finding(bulk.dialect(session), column, *_organization), bulk.keys(values))
    return [OrganizationRow(*row) for row in found]


@cache
def _finding(dialect: str, column: ColumnElement[Any], *shown: ColumnElement[Any]) -> Select[Any]:
    found = select(*shown).where(bulk.among(dialect, column))
    if column is _users.c.id or column is _organizations.c.id:
        return found  # past links show whom they belonged to
    removed_at = shown[0].table.c.removed_at
    return found.where(removed_at.is_(None))


def _lock(
    session: Session, model: type[User] | type[Organization], ids: Collection[UUID], *names: str
) -> Sequence[Sequence[Any]]:
    """In the order in which everybody locks them, an import too."""
    if not ids:
        return []
    columns = bulk.table(model).c
    wanted = bulk.among(bulk.dialect(session), columns.id), columns.removed_at.is_(None)
    locking = select(columns.id, *(columns[name] for name in names)).where(*wanted)
    ordered = locking.order_by(columns.external_id).with_for_update(key_share=True)
    found = session.execute(ordered, bulk.keys(ids)).all()
    if len(found) < len(ids):
        raise OwnerRemoved
    return found
