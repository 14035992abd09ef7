"""Statements on teams, destinations and routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.events import insert_for
from app.db.models import Destination, RouteSetVersion, RouteVersion, Team

FILE = "file"  # the source of what waylink.toml defines


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route as somebody defines it; versions are counted here."""

    name: str
    team: str
    destination: str
    job: str
    pattern: Mapping[str, Any]


def current_version(session: Session) -> int:
    """The route set's number: one cheap read tells whether anything changed."""
    return session.scalar(select(RouteSetVersion.version)) or 0


def live(session: Session) -> list[RouteVersion]:
    """The routes of the current set, by name."""
    return list(
        session.scalars(select(RouteVersion).where(RouteVersion.until_set.is_(None)).order_by(RouteVersion.name))
    )


def of_set(session: Session, version: int) -> list[RouteVersion]:
    """The routes of a set, past or present, by name."""
    until = RouteVersion.until_set
    held = (RouteVersion.since_set <= version) & (until.is_(None) | (until > version))
    return list(session.scalars(select(RouteVersion).where(held).order_by(RouteVersion.name)))


def changed_since(session: Session, version: int) -> list[RouteVersion]:
    """What began or ended after a set: the living rows, and those that ended."""
    since, until = RouteVersion.since_set, RouteVersion.until_set
    return list(session.scalars(select(RouteVersion).where((since > version) | (until > version))))


def versions(session: Session, name: str) -> list[RouteVersion]:
    """All versions of a route, newest first."""
    found = select(RouteVersion).where(RouteVersion.name == name).order_by(RouteVersion.version.desc())
    return list(session.scalars(found))


def destinations(session: Session) -> dict[tuple[str, str], Destination]:
    """Every destination by (team, name), retired ones too: old jobs point at them."""
    return {(one.team, one.name): one for one in session.scalars(select(Destination))}


def ensure_teams(session: Session, names: Iterable[str], *, now: datetime) -> None:
    rows = [{"name": name, "source": FILE, "created_at": now} for name in sorted(names)]
    if rows:
        session.execute(insert_for(session, Team).on_conflict_do_nothing(), rows)


def bump(session: Session) -> int:
    """Begin a new route set and return its number. The row lock makes concurrent changes wait for each other."""
    session.execute(update(RouteSetVersion).values(version=RouteSetVersion.version + 1))
    return current_version(session)


def highest_versions(session: Session) -> dict[str, int]:
    """The newest version ever given to each route name, so that a returning name goes on counting."""
    found: dict[str, int] = {}
    for name, version in session.execute(select(RouteVersion.name, RouteVersion.version)):
        found[name] = max(version, found.get(name, 0))
    return found
