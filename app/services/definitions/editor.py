"""Editors of teams, destinations and routes, and the checks that protect concurrent edits."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.orm import Session

from app.db import audit, teams
from app.db.models import Team
from app.db.routes import FILE
from app.domain.definitions import wrong_name
from app.errors import ReadOnly, Stale


class Defined(Protocol):
    """A row with a source and a version."""

    @property
    def source(self) -> str: ...

    @property
    def version(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Editor:
    """`actor`: the name in the audit. `team`: the only one that is visible and editable; None for all."""

    actor: str
    team: str | None = None

    def may_see(self, team: str) -> bool:
        return self.team in {None, team}

    def record(self, session: Session, action: str, subject: str, detail: Mapping[str, Any], *, now: datetime) -> None:
        audit.record(session, actor=self.actor, action=action, subject=subject, now=now, detail=detail)


def require_editable(kind: str, name: str, row: Defined, *, version: int | None) -> None:
    """`version`: the one that the edit was made on, if known. Raises ReadOnly, Stale."""
    if row.source == FILE:
        raise ReadOnly(kind, name)
    if version is not None and version != row.version:
        raise Stale(kind, name, version=row.version, expected=version)


def team_in_force(session: Session, name: str, editor: Editor) -> Team | None:
    """The team; None if it does not exist, was removed, or is not visible to the editor."""
    if wrong_name(name):  # no row has it, and the database may not accept it
        return None
    team = teams.get(session, name)
    return team if team is not None and team.retired_at is None and editor.may_see(name) else None
