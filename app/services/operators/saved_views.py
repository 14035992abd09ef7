"""Saved views: who sees and changes them, within limits, each change with an entry in the audit.

A view is its caller's own. One that an operator shares is seen by all who are not limited to a team, and changed by
operators. All functions take a session.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit
from app.db import saved_views as rows
from app.db.models import SavedView
from app.domain.access import Access, Scope
from app.domain.tags import is_storable
from app.errors import Conflict, FieldFault, InvalidFields, NotFound
from app.ids import VIEW, new_id, show

MAX_NAME: Final = 60
MAX_QUERY: Final = 2_000
MAX_OWN: Final = 100
MAX_SHARED: Final = 200


def visible(session: Session, access: Access, *, page: str | None = None) -> Sequence[SavedView]:
    """The views that the caller sees: own ones first."""
    found = rows.visible(session, access.actor, shared=access.team is None)
    return [row for row in found if page in {None, row.page}]


def find(session: Session, access: Access, view_id: UUID) -> SavedView:
    """Raises NotFound, also for a view of another that is not shared."""
    row = rows.get(session, view_id)
    if row is None or not (row.actor == access.actor or (row.shared and access.team is None)):
        raise NotFound("view", show(VIEW, view_id))
    return row


def may_share(access: Access) -> bool:
    """Whether the caller may share views, and change those that others share."""
    return access.team is None and access.allows(Scope.OPERATOR)


def may_change(access: Access, row: SavedView) -> bool:
    """Whether the caller may change and remove this view."""
    return row.actor == access.actor if not row.shared else may_share(access)


def add(
    session: Session, access: Access, *, page: str, name: str, query: str, shared: bool, now: datetime
) -> SavedView:
    """Save a view. query: checked by the caller. Raises InvalidFields, Conflict."""
    name = _checked(session, access, name, page)
    if rows.own_count(session, access.actor) >= MAX_OWN:
        raise Conflict(f"there are {MAX_OWN} views of yours already: remove some first")
    if shared:
        _require_room(session)
    row = SavedView(id=new_id(), actor=access.actor, page=page, name=name, query=query, shared=shared, created_at=now)
    rows.add(session, row)
    _record(session, access, row, "added", now)
    return row


def change(
    session: Session,
    access: Access,
    row: SavedView,
    *,
    name: str,
    query: str,
    shared: bool,
    now: datetime,
) -> None:
    """Give a view that the caller may change another name, query or circle. Raises InvalidFields, Conflict."""
    if name != row.name:
        name = _checked(session, access, name, row.page)
    if shared and not row.shared:
        _require_room(session)
    if (name, query, shared) != (row.name, row.query, row.shared):
        rows.change(session, row, now=now, name=name, query=query, shared=shared)
        _record(session, access, row, "changed", now)


def remove(session: Session, access: Access, row: SavedView, *, now: datetime) -> None:
    """Delete a view that the caller may change."""
    _record(session, access, row, "removed", now)
    rows.remove(session, row)


def _checked(session: Session, access: Access, name: str, page: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable() or not is_storable(name):
        raise _fault("name", "invalid", f"must have 1 to {MAX_NAME} characters that can be shown")
    if any(row.name.lower() == name.lower() for row in visible(session, access, page=page)):
        raise _fault("name", "taken", "a view of this list has this name already: take another one")
    return name


def _require_room(session: Session) -> None:
    if rows.shared_count(session) >= MAX_SHARED:
        raise Conflict(f"{MAX_SHARED} views are shared already: remove some first")


def _fault(field: str, rule: str, told: str) -> InvalidFields:
    return InvalidFields([FieldFault(field, rule, told)])


def _record(session: Session, access: Access, row: SavedView, did: str, now: datetime) -> None:
    subject, detail = show(VIEW, row.id), {"page": row.page, "name": row.name, "shared": row.shared}
    audit.record(session, actor=access.actor, action=f"view.{did}", subject=subject, detail=detail, now=now)
