"""Who defines teams, destinations and routes, and what keeps two of them from each other's way."""

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
    """A row that somebody defined."""

    @property
    def source(self) -> str: ...

    @property
    def version(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Editor:
    """`actor` is what the audit calls them. `team`: the only one whose they may see and change; None for all."""

    actor: str
    team: str | None = None

    def may_see(self, team: str) -> bool:
        return self.team in {None, team}

    def record(self, session: Session, action: str, subject: str, detail: Mapping[str, Any], *, now: datetime) -> None:
        audit.record(session, actor=self.actor, action=action, subject=subject, now=now, detail=detail)


def require_editable(kind: str, name: str, row: Defined, *, version: int | None) -> None:
    """`version`: the one that the edit was made on, if the caller says so. Raises ReadOnly, Stale."""
    if row.source == FILE:
        raise ReadOnly(kind, name)
    if version is not None and version != row.version:
        raise Stale(kind, name, version=row.version, expected=version)


def team_in_force(session: Session, name: str, editor: Editor) -> Team | None:
    """None for one that is not there, was removed, or is not the editor's."""
    if wrong_name(name):  # nothing has it, and the database may not even take it
        return None
    team = teams.get(session, name)
    return team if team is not None and team.retired_at is None and editor.may_see(name) else None
