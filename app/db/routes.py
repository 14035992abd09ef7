"""Statements on routes and their versions, and on definitions of teams, destinations and routes together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.models import Destination, RouteSetVersion, RouteVersion, Team
from app.domain.definitions import DefinedNames
from app.errors import InvalidInput

FILE: Final = "file"  # source of definitions in waylink.toml
API: Final = "api"  # source of definitions by the API or a command


@dataclass(frozen=True, slots=True)
class RouteDefinition:
    """A route's definition, without a version number."""

    name: str
    team: str
    destination: str
    job: str
    pattern: Mapping[str, Any]
    enabled: bool = True

    @property
    def key(self) -> tuple[str, str]:
        return self.team, self.name


def lock_definitions(session: Session) -> int:
    """Lock the definitions of teams, destinations and routes. Returns the route set's number."""
    return session.scalar(select(RouteSetVersion.version).with_for_update()) or 0


def current_version(session: Session) -> int:
    """The number of the current route set, by a cheap read."""
    return session.scalar(select(RouteSetVersion.version)) or 0


def live(session: Session) -> list[RouteVersion]:
    """The routes of the current set, by team and name."""
    statement = select(RouteVersion).where(RouteVersion.until_set.is_(None))
    return list(session.scalars(statement.order_by(RouteVersion.team, RouteVersion.name)))


def of_set(
    session: Session,
    version: int,
    *,
    team: str | None = None,
    name: str | None = None,
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[RouteVersion]:
    """The routes of a set, past or present, ordered by team and name. None: no restriction; after: a (team, name)."""
    until = RouteVersion.until_set
    statement = select(RouteVersion).where(RouteVersion.since_set <= version, until.is_(None) | (until > version))
    for column, wanted in ((RouteVersion.team, team), (RouteVersion.name, name)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if after is not None:
        statement = statement.where(tuple_(RouteVersion.team, RouteVersion.name) > tuple_(*after))
    return list(session.scalars(statement.order_by(RouteVersion.team, RouteVersion.name).limit(limit)))


def changed_since(session: Session, version: int) -> list[RouteVersion]:
    """The versions that began or ended after a set."""
    since, until = RouteVersion.since_set, RouteVersion.until_set
    return list(session.scalars(select(RouteVersion).where((since > version) | (until > version))))


def versions(session: Session, *, team: str, name: str) -> list[RouteVersion]:
    """All versions of a route, newest first."""
    statement = select(RouteVersion).where(RouteVersion.team == team, RouteVersion.name == name)
    return list(session.scalars(statement.order_by(RouteVersion.version.desc())))


def live_route(session: Session, *, team: str, name: str) -> RouteVersion | None:
    """A route's version in force, or None."""
    named = (RouteVersion.team == team, RouteVersion.name == name)
    return session.scalar(select(RouteVersion).where(*named, RouteVersion.until_set.is_(None)))


def live_names(session: Session, *, team: str, destination: str | None = None, limit: int = 5) -> list[str]:
    """Names of up to `limit` routes in force of a team, or of one of its destinations."""
    statement = select(RouteVersion.name).where(RouteVersion.team == team, RouteVersion.until_set.is_(None))
    if destination is not None:
        statement = statement.where(RouteVersion.destination == destination)
    return list(session.scalars(statement.order_by(RouteVersion.name).limit(limit)))


def require_defined(
    session: Session, *, team: str | None = None, destination: str | None = None, route: str | None = None
) -> None:
    """Raise InvalidInput for a team, destination or route that was never defined.

    Retired ones have been defined: jobs of theirs may be there.
    """
    if team is None:
        return
    if session.get(Team, team) is None:
        raise InvalidInput(f"there is no team {team[:100]!a}, and never was")
    if destination is not None and session.get(Destination, (team, destination)) is None:
        raise InvalidInput(f"team {team} has no destination {destination[:100]!a}, and never had")
    named = exists().where(RouteVersion.team == team, RouteVersion.name == route)
    if route is not None and not session.scalar(select(named)):
        raise InvalidInput(f"team {team} has no route {route[:100]!a}, and never had")


def of_file(session: Session) -> DefinedNames:
    """Names of the teams, destinations and routes in force that waylink.toml defined."""
    teams = select(Team.name).where(Team.source == FILE, Team.retired_at.is_(None))
    places = select(Destination.team, Destination.name).where(
        Destination.source == FILE, Destination.retired_at.is_(None)
    )
    named = select(RouteVersion.team, RouteVersion.name).where(
        RouteVersion.source == FILE, RouteVersion.until_set.is_(None)
    )
    return DefinedNames(
        frozenset(session.scalars(teams)),
        frozenset((team, name) for team, name in session.execute(places)),
        frozenset((team, name) for team, name in session.execute(named)),
    )


def asked(row: RouteVersion) -> RouteDefinition:
    """The definition of a stored version."""
    return RouteDefinition(
        name=row.name,
        team=row.team,
        destination=row.destination,
        job=row.job,
        pattern=row.pattern,
        enabled=row.enabled,
    )


def version_of(route: RouteDefinition, *, number: int, source: str, since_set: int, now: datetime) -> RouteVersion:
    """A new version of a route, in force from set `since_set` on."""
    return RouteVersion(
        name=route.name,
        version=number,
        team=route.team,
        destination=route.destination,
        job=route.job,
        pattern=dict(route.pattern),
        enabled=route.enabled,
        source=source,
        since_set=since_set,
        created_at=now,
    )


def save(session: Session, *versions: RouteVersion) -> None:
    """Flush new and changed versions, an ended one before its successor: the schema allows one in force."""
    session.add_all(versions)
    session.flush()


def bump(session: Session) -> int:
    """Begin a new route set and return its number. The row lock makes concurrent changes wait for each other."""
    session.execute(update(RouteSetVersion).values(version=RouteSetVersion.version + 1))
    return current_version(session)


def highest_version(session: Session, *, team: str, name: str) -> int:
    """The highest version number of a route, past or present; 0 for a new route."""
    named = (RouteVersion.team == team, RouteVersion.name == name)
    return session.scalar(select(func.max(RouteVersion.version)).where(*named)) or 0


def highest_versions(session: Session) -> dict[tuple[str, str], int]:
    """The highest version numbers of all routes, past or present, by (team, name)."""
    newest = select(RouteVersion.team, RouteVersion.name, func.max(RouteVersion.version))
    rows = session.execute(newest.group_by(RouteVersion.team, RouteVersion.name))
    return {(team, name): version for team, name, version in rows}
