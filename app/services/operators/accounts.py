"""Operators' accounts: added, changed and removed, each with an entry in the audit. All functions take a session.

What withdraws or changes rights ends the operator's sessions.
"""

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, operator_sessions, saved_views, teams
from app.db import operators as rows
from app.db.models import Operator
from app.db.operators import Identity
from app.domain.access import Rights, Role
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import OPERATOR, new_id, parse, show

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")
MAX_OPERATORS: Final = 10_000


def add(
    session: Session, name: str, rights: Rights, *, actor: str, now: datetime, identity: Identity | None = None
) -> Operator:
    """Add an operator, who cannot sign in yet. Raises InvalidInput, NotFound, Conflict."""
    if not NAME.fullmatch(name):
        what = "up to 100 small letters, digits and . _ @ + -, and begins with a letter or digit"
        raise InvalidInput(f"{name!r} cannot be an operator's name: it has {what}")
    require_usable(session, rights)
    if rows.count(session) >= MAX_OPERATORS:
        raise Conflict(f"there are {MAX_OPERATORS} operators already: remove some first")
    row = rows.add(session, new_id(), name=name, rights=rights, now=now, identity=identity)
    if row is None:
        raise Conflict(f"there is an operator {name!r} already: take another name")
    _record(session, row, "added", actor=actor, now=now, **_told(rights), issuer=identity.issuer if identity else None)
    return row


def find(session: Session, name_or_id: str) -> Operator:
    """The operator of this name or `opr_…` id. Raises NotFound."""
    found = rows.by_name(session, name_or_id)
    if found is None and name_or_id.startswith(f"{OPERATOR}_"):
        found = rows.get(session, parse(OPERATOR, name_or_id))
    if found is None:
        raise NotFound("operator", name_or_id)
    return found


def change_rights(session: Session, row: Operator, rights: Rights, *, actor: str, now: datetime, yes: bool) -> None:
    """Give other rights, and end all sessions. Raises InvalidInput, NotFound, Conflict.

    yes: also where no enabled operator of the role `operator` is left.
    """
    if row.issuer is not None:
        raise Conflict(f"the rights of {row.name} follow the groups at the identity provider: change them there")
    require_usable(session, rights)
    if rights == rows.rights_of(row):
        return
    if rights.role is not Role.OPERATOR:
        _keep_one(session, row, yes=yes)
    apply_rights(session, row, rights, actor=actor, now=now)


def apply_rights(session: Session, row: Operator, rights: Rights, *, actor: str, now: datetime) -> None:
    """Record other rights, and end all sessions."""
    before = _told(rows.rights_of(row))
    rows.change(session, row, role=str(rights.role), team=rights.team, credentials=rights.credentials)
    operator_sessions.end_all(session, row.id)
    _record(session, row, "role_changed", actor=actor, now=now, before=before, **_told(rights))


def disable(session: Session, row: Operator, *, actor: str, now: datetime, yes: bool) -> None:
    """Keep an operator out, and end all sessions. Raises Conflict."""
    if row.disabled_at is not None:
        return
    _keep_one(session, row, yes=yes)
    rows.change(session, row, disabled_at=now)
    rows.drop_links(session, row.id)
    operator_sessions.end_all(session, row.id)
    _record(session, row, "disabled", actor=actor, now=now)


def enable(session: Session, row: Operator, *, actor: str, now: datetime) -> None:
    """Let a disabled operator sign in again."""
    if row.disabled_at is None:
        return
    rows.change(session, row, disabled_at=None)
    _record(session, row, "enabled", actor=actor, now=now)


def remove(session: Session, row: Operator, *, actor: str, now: datetime, yes: bool) -> None:
    """Delete an operator with links, sessions and views that are not shared; the audit keeps the name.

    Raises Conflict.
    """
    _keep_one(session, row, yes=yes)
    saved_views.remove_unshared(session, rows.rights_of(row).access(row.name).actor)
    _record(session, row, "removed", actor=actor, now=now)
    rows.remove(session, row.id)


def sign_out(session: Session, row: Operator, *, actor: str, now: datetime) -> int:
    """End all sessions of an operator. Returns their number."""
    ended = operator_sessions.end_all(session, row.id)
    _record(session, row, "signed_out", actor=actor, now=now, sessions=ended)
    return ended


def end_others(session: Session, operator_id: UUID, *, but: UUID, now: datetime) -> None:
    """End the sessions of an operator but for one, as the operator asks."""
    row = rows.get(session, operator_id)
    ended = operator_sessions.end_all(session, operator_id, but=but)
    if row is not None and ended:
        _record(session, row, "signed_out", actor=f"operator:{row.name}", now=now, sessions=ended)


def first(session: Session, *, actor: str, now: datetime) -> Operator | None:
    """The operator who is to sign in first, added where there is none; None where an operator has signed in."""
    if rows.any_signed_in(session):
        return None
    able = [row for row in rows.all_operators(session) if _rules(row) and row.issuer is None]
    if able:
        return able[0]
    if rows.by_name(session, "admin") is not None:
        return None  # disabled, or made something else by intention
    return add(session, "admin", Rights(Role.OPERATOR), actor=actor, now=now)


def _keep_one(session: Session, row: Operator, *, yes: bool) -> None:
    """Raises Conflict where no other operator could manage operators by the console or the API."""
    if not yes and _rules(row) and rows.locked_rulers(session) == [row.id]:
        raise Conflict(f"{row.name} is the last enabled operator of the role `operator`: `yes` does it all the same")


def _rules(row: Operator) -> bool:
    return row.role == Role.OPERATOR and row.disabled_at is None


def require_usable(session: Session, rights: Rights) -> None:
    """Raises InvalidInput where rights do not go together, NotFound where the team is not there."""
    if rights.fault:
        raise InvalidInput(rights.fault)
    if rights.team is not None:
        team = teams.get(session, rights.team)
        if team is None or team.retired_at is not None:
            raise NotFound("team", rights.team)


def _told(rights: Rights) -> dict[str, object]:
    return {"role": str(rights.role), "team": rights.team, "credentials": rights.credentials}


def _record(session: Session, row: Operator, done: str, *, actor: str, now: datetime, **detail: object) -> None:
    told = {"name": row.name} | {key: value for key, value in detail.items() if value is not None}
    subject = show(OPERATOR, row.id)
    audit.record(session, actor=actor, action=f"operator.{done}", subject=subject, now=now, detail=told)
