"""Statements on the local users and organizations, for linking."""

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, Text, func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Organization, User

_users: Final = bulk.table(User)
_lower_email: Final = func.lower(_users.c.email, type_=Text())
_organizations: Final = bulk.table(Organization)


class DirectoryUser(Struct):
    """A stored user. Changes in memory are written by `complete_users`."""

    id: UUID
    external_id: str
    email: str | None
    display_name: str | None
    organization_id: UUID | None


class DirectoryOrganization(Struct):
    """A stored organization. Changes in memory are written by `complete_organizations`."""

    id: UUID
    external_id: str
    name: str | None


_user: Final = bulk.columns(User, DirectoryUser)
_organization: Final = bulk.columns(Organization, DirectoryOrganization)


def users_by_external_id(session: Session, external_ids: Collection[str]) -> dict[str, DirectoryUser]:
    """Users that were not removed, as in all lookups by the application's names."""
    return {user.external_id: user for user in _find_users(session, _users.c.external_id, external_ids)}


def users_by_email(session: Session, emails: Collection[str]) -> dict[str, list[DirectoryUser]]:
    """Users by lower-case e-mail; several may share one."""
    found: dict[str, list[DirectoryUser]] = {}
    for user in _find_users(session, _lower_email, {email.lower() for email in emails}):
        found.setdefault((user.email or "").lower(), []).append(user)
    return found


def users_by_id(session: Session, ids: Collection[UUID]) -> dict[UUID, DirectoryUser]:
    return {user.id: user for user in _find_users(session, _users.c.id, ids)}


def organizations_by_external_id(session: Session, external_ids: Collection[str]) -> dict[str, DirectoryOrganization]:
    found = _find_organizations(session, _organizations.c.external_id, external_ids)
    return {organization.external_id: organization for organization in found}


def organizations_by_id(session: Session, ids: Collection[UUID]) -> dict[UUID, DirectoryOrganization]:
    return {organization.id: organization for organization in _find_organizations(session, _organizations.c.id, ids)}


def add_users(session: Session, rows: Sequence[bulk.Row]) -> bool:
    """Insert users. False when another transaction has added one of them meanwhile, which then stays."""
    ordered = sorted(rows, key=lambda row: str(row["external_id"]))
    return bulk.insert(session, User, ordered, skip_existing=True) == len(rows)


def add_organizations(session: Session, rows: Sequence[bulk.Row]) -> bool:
    """Insert organizations. False when another transaction has added one of them meanwhile, which then stays."""
    ordered = sorted(rows, key=lambda row: str(row["external_id"]))
    return bulk.insert(session, Organization, ordered, skip_existing=True) == len(rows)


def lock_users(session: Session, users: Collection[DirectoryUser]) -> None:
    """Lock users in sorted order, and read their present fields."""
    known = {user.id: user for user in users}
    for id_, email, display_name in _lock(session, User, known, "email", "display_name"):
        known[id_].email, known[id_].display_name = email, display_name


def lock_organizations(session: Session, organizations: Collection[DirectoryOrganization]) -> None:
    """Lock organizations in sorted order, and read their present names."""
    known = {organization.id: organization for organization in organizations}
    for id_, name in _lock(session, Organization, known, "name"):
        known[id_].name = name


def complete_users(session: Session, users: Collection[DirectoryUser]) -> None:
    """Write e-mail and display name of locked users."""
    if users:
        rows = [{"id": user.id, "email": user.email, "display_name": user.display_name} for user in users]
        bulk.update(session, User, rows)


def complete_organizations(session: Session, organizations: Collection[DirectoryOrganization]) -> None:
    """Write the names of locked organizations."""
    if organizations:
        rows = [{"id": organization.id, "name": organization.name} for organization in organizations]
        bulk.update(session, Organization, rows)


def _find_users(session: Session, column: ColumnElement[Any], values: Collection[object]) -> list[DirectoryUser]:
    if not values:
        return []
    finding = _finding(bulk.dialect(session), column, *_user)
    return bulk.records(session, DirectoryUser, finding, bulk.keys(values))


def _find_organizations(
    session: Session, column: ColumnElement[Any], values: Collection[object]
) -> list[DirectoryOrganization]:
    if not values:
        return []
    finding = _finding(bulk.dialect(session), column, *_organization)
    return bulk.records(session, DirectoryOrganization, finding, bulk.keys(values))


@cache
def _finding(dialect: str, column: ColumnElement[Any], *shown: ColumnElement[Any]) -> Select[Any]:
    found = select(*shown).where(bulk.among(dialect, column))
    if column is _users.c.id or column is _organizations.c.id:
        return found  # past links show removed owners, too
    removed_at = shown[0].table.c.removed_at
    return found.where(removed_at.is_(None))


def _lock(
    session: Session, model: type[User] | type[Organization], ids: Collection[UUID], *names: str
) -> Sequence[Sequence[Any]]:
    """Lock in the order that all transactions use, imports included."""
    if not ids:
        return []
    columns = bulk.table(model).c
    locking = select(columns.id, *(columns[name] for name in names)).where(
        bulk.among(bulk.dialect(session), columns.id)
    )
    return session.execute(locking.order_by(columns.external_id).with_for_update(), bulk.keys(ids)).all()
