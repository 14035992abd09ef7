"""Endpoints for users and organizations, the owners of connections."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, Struct, structs
from sqlalchemy.orm import Session

from app.db import people as rows
from app.db.people import PeopleFilters
from app.db.read import searching
from app.domain.access import Scope
from app.domain.people import OwnerKind
from app.domain.people_files import Format, read
from app.errors import Conflict, InvalidInput
from app.ids import ORGANIZATION, USER
from app.services.linking import waiting
from app.services.people import importer, records
from app.services.people.records import MergeResult
from app.web.api.endpoint import Call, Endpoint, Page, endpoint, page, record
from app.web.api.people_shapes import (
    ChangeQuery,
    Imported,
    ImportQuery,
    NewOrganization,
    NewUser,
    OrganizationChange,
    OrganizationQuery,
    OrganizationRecord,
    OrganizationRow,
    Removal,
    RemovalQuery,
    UserChange,
    UserQuery,
    UserRecord,
    UserRow,
)
from app.web.api.reading import after, identity

LINKED_AT_ONCE: Final = 1  # chunk of waiting connections linked by a call; the others follow within ten seconds


@endpoint("GET /users", scope=Scope.VIEWER)
def list_users(call: Call, query: UserQuery) -> Page[UserRow]:
    """List users, newest first."""
    filters = PeopleFilters(
        limit=query.limit + 1,
        before=after(USER, query.cursor),
        external_id=query.external_id,
        email=query.email,
        organization=query.organization,
        removed=query.removed,
        unconnected=query.unconnected,
        search=searching.AT_MOST_COMPARED,
    )
    with call.context.database.read() as session:
        return page(rows.listing(session, OwnerKind.USER, filters), query.limit, UserRow)


@endpoint("POST /users", scope=Scope.OPERATOR, status=201)
def add_user(call: Call, body: NewUser) -> UserRecord:
    """Add a user. Connections that wait for them are linked.

    An external id that is in use is a conflict, whose `found.id` is the user that has it.
    """
    return record(_add(call, OwnerKind.USER, body), UserRecord)


@endpoint("POST /users/import", scope=Scope.OPERATOR)
def import_users(call: Call, query: ImportQuery, lines: bytes) -> Imported:
    """Add and change users by external id, a JSON object per line.

    Fields that a line leaves out stay as they are; null clears. Bad lines are refused with their number, the others
    written.
    """
    return _import(call, OwnerKind.USER, lines, dry_run=query.dry_run)


@endpoint("GET /users/{user_id}", scope=Scope.VIEWER)
def get_user(call: Call, user_id: str) -> UserRecord:
    """One user with their links, by `usr_…` id."""
    return record(_one(call, OwnerKind.USER, user_id), UserRecord)


@endpoint("PATCH /users/{user_id}", scope=Scope.OPERATOR)
def change_user(call: Call, user_id: str, query: ChangeQuery, body: UserChange) -> UserRecord:
    """Change a user. Connections that wait for the new id or address are linked."""
    return record(_change(call, OwnerKind.USER, user_id, query, body), UserRecord)


@endpoint("DELETE /users/{user_id}", scope=Scope.OPERATOR)
def remove_user(call: Call, user_id: str, query: RemovalQuery) -> Removal:
    """Remove a user. While connections belong to them, that is a conflict unless forced."""
    return _remove(call, OwnerKind.USER, user_id, force=query.force)


@endpoint("GET /organizations", scope=Scope.VIEWER)
def list_organizations(call: Call, query: OrganizationQuery) -> Page[OrganizationRow]:
    """List organizations, newest first."""
    filters = PeopleFilters(
        limit=query.limit + 1,
        before=after(ORGANIZATION, query.cursor),
        external_id=query.external_id,
        removed=query.removed,
        unconnected=query.unconnected,
        search=searching.AT_MOST_COMPARED,
    )
    with call.context.database.read() as session:
        return page(rows.listing(session, OwnerKind.ORGANIZATION, filters), query.limit, OrganizationRow)


@endpoint("POST /organizations", scope=Scope.OPERATOR, status=201)
def add_organization(call: Call, body: NewOrganization) -> OrganizationRecord:
    """Add an organization. Connections that wait for it are linked."""
    return record(_add(call, OwnerKind.ORGANIZATION, body), OrganizationRecord)


@endpoint("POST /organizations/import", scope=Scope.OPERATOR)
def import_organizations(call: Call, query: ImportQuery, lines: bytes) -> Imported:
    """Add and change organizations by external id, a JSON object per line."""
    return _import(call, OwnerKind.ORGANIZATION, lines, dry_run=query.dry_run)


@endpoint("GET /organizations/{organization_id}", scope=Scope.VIEWER)
def get_organization(call: Call, organization_id: str) -> OrganizationRecord:
    """One organization with its links, by `org_…` id."""
    return record(_one(call, OwnerKind.ORGANIZATION, organization_id), OrganizationRecord)


@endpoint("PATCH /organizations/{organization_id}", scope=Scope.OPERATOR)
def change_organization(
    call: Call, organization_id: str, query: ChangeQuery, body: OrganizationChange
) -> OrganizationRecord:
    """Change an organization. Connections that wait for the new id are linked."""
    return record(_change(call, OwnerKind.ORGANIZATION, organization_id, query, body), OrganizationRecord)


@endpoint("DELETE /organizations/{organization_id}", scope=Scope.OPERATOR)
def remove_organization(call: Call, organization_id: str, query: RemovalQuery) -> Removal:
    """Remove an organization. While connections or users belong to it, that is a conflict unless forced."""
    return _remove(call, OwnerKind.ORGANIZATION, organization_id, force=query.force)


def _one(call: Call, kind: OwnerKind, shown: str) -> Mapping[str, Any]:
    with call.context.database.read() as session:
        return rows.get(session, kind, identity(rows.PREFIX[kind], shown))


def _add(call: Call, kind: OwnerKind, body: Struct) -> Mapping[str, Any]:
    with call.context.database.write() as session:
        merged = records.add(session, kind, _given(body), actor=call.actor, now=call.context.clock())
    return _finish(call, kind, merged)


def _change(call: Call, kind: OwnerKind, shown: str, query: ChangeQuery, body: Struct) -> Mapping[str, Any]:
    id_ = identity(rows.PREFIX[kind], shown)
    with call.context.database.write() as session:
        if query.updated_at is not None:
            _require_unchanged(session, kind, id_, query.updated_at)
        merged = records.change(session, kind, id_, _given(body), actor=call.actor, now=call.context.clock())
    return _finish(call, kind, merged)


def _require_unchanged(session: Session, kind: OwnerKind, id_: UUID, updated_at: str) -> None:
    """Lock the row. Raises Conflict where another change was made after `updated_at`."""
    rows.lock_by_id(session, kind, id_)
    present = rows.get(session, kind, id_)
    last = present["updated_at"] or present["created_at"]
    if last != updated_at:
        message = f"the {kind} {rows.shown_id(kind, id_)} was changed at {last}: look at it again"
        raise Conflict(message, found={"updated_at": last})


def _finish(call: Call, kind: OwnerKind, merged: MergeResult) -> Mapping[str, Any]:
    """Link waiting connections after the commit, then return the record."""
    context = call.context
    linked = waiting.link_appeared(
        context.database, context.routes, context.policy, merged.appeared, clock=context.clock, chunks=LINKED_AT_ONCE
    )
    id_ = merged.outcomes[0].id
    assert id_ is not None  # noqa: S101 - a refused entry has raised
    with context.database.read() as session:
        return {**rows.get(session, kind, id_), "linked": linked}


def _remove(call: Call, kind: OwnerKind, shown: str, *, force: bool) -> Removal:
    id_ = identity(rows.PREFIX[kind], shown)
    context = call.context
    removed = records.remove(context.database, kind, id_, force=force, actor=call.actor, clock=context.clock)
    return Removal(
        id=rows.shown_id(kind, id_),
        links_closed=removed.links_closed,
        users_released=removed.users_released,
        history_kept=removed.kept,
    )


def _import(call: Call, kind: OwnerKind, lines: bytes, *, dry_run: bool) -> Imported:
    try:
        text = lines.decode()
    except UnicodeDecodeError as broken:
        raise InvalidInput(f"the body is not UTF-8 at byte {broken.start}") from None
    context = call.context
    summary = importer.run(
        context.database,
        context.policy,
        context.routes,
        kind,
        read(kind, Format.JSON_LINES, text.split("\n")),
        dry_run=dry_run,
        actor=call.actor,
        clock=context.clock,
    )
    return record(asdict(summary), Imported)


def _given(body: Struct) -> dict[str, str | None]:
    return {name: value for name, value in structs.asdict(body).items() if value is not UNSET}


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    list_users,
    add_user,
    import_users,
    get_user,
    change_user,
    remove_user,
    list_organizations,
    add_organization,
    import_organizations,
    get_organization,
    change_organization,
    remove_organization,
)
