"""Statements on routes, and on what is defined of teams, destinations and routes together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from app.db.models import Destination, RouteSetVersion, RouteVersion, Team
from app.domain.definitions import DefinedNames
from app.errors import InvalidInput

FILE: Final = "file"  # the source of what waylink.toml defines
API: Final = "api"  # and of what the API and the commands do


@dataclass(frozen=True, slots=True)
class RouteDefinition:
    """A route as somebody defines it; versions are counted here."""

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
    """Wait for whoever changes teams, destinations or routes, so that one is done at a time; the route set's number."""
    return session.scalar(select(RouteSetVersion.version).with_for_update()) or 0


def current_version(session: Session) -> int:
    """The route set's number: one cheap read tells whether anything changed."""
    return session.scalar(select(RouteSetVersion.version)) or 0


def live(session: Session) -> list[RouteVersion]:
    """The routes of the current set, by team and name."""
    found = select(RouteVersion).where(RouteVersion.until_set.is_(None))
    return list(session.scalars(found.order_by(RouteVersion.team, RouteVersion.name)))


def of_set(
    session: Session,
    version: int,
    *,
    team: str | None = None,
    name: str | None = None,
    after: tuple[str, str] | None = None,
    limit: int | None = None,
) -> list[RouteVersion]:
    """The routes of a set, past or present, by team and name: all, or those of a team, of a name, behind another."""
    until = RouteVersion.until_set
    found = select(RouteVersion).where(RouteVersion.since_set <= version, until.is_(None) | (until > version))
    for column, wanted in ((RouteVersion.team, team), (RouteVersion.name, name)):
        if wanted is not None:
            found = found.where(column == wanted)
    if after is not None:
        found = found.where(tuple_(RouteVersion.team, RouteVersion.name) > tuple_(*after))
    return list(session.scalars(found.order_by(RouteVersion.team, RouteVersion.name).limit(limit)))


def changed_since(session: Session, version: int) -> list[RouteVersion]:
    """What began or ended after a set: the living rows, and those that ended."""
    since, until = RouteVersion.since_set, RouteVersion.until_set
    return list(session.scalars(select(RouteVersion).where((since > version) | (until > version))))


def versions(session: Session, *, team: str, name: str) -> list[RouteVersion]:
    """All versions of a route, newest first."""
    found = select(RouteVersion).where(RouteVersion.team == team, RouteVersion.name == name)
    return list(session.scalars(found.order_by(RouteVersion.version.desc())))


def live_route(session: Session, *, team: str, name: str) -> RouteVersion | None:
    """The version in force."""
    named = (RouteVersion.team == team, RouteVersion.name == name)
    return session.scalar(select(RouteVersion).where(*named, RouteVersion.until_set.is_(None)))


def live_names(session: Session, *, team: str, destination: str | None = None, limit: int = 5) -> list[str]:
    """Some of the routes in force of a team, or into one of its destinations."""
    found = select(RouteVersion.name).where(RouteVersion.team == team, RouteVersion.until_set.is_(None))
    if destination is not None:
        found = found.where(RouteVersion.destination == destination)
    return list(session.scalars(found.order_by(RouteVersion.name).limit(limit)))


def require_defined(
    session: Session, *, team: str | None = None, destination: str | None = None, route: str | None = None
) -> None:
    """Raises InvalidInput for a team that never was, and for a destination or a route that it never had.

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
    """What is in force and came from waylink.toml."""
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
    """A recorded version as somebody defined it."""
    return RouteDefinition(
        name=row.name,
        team=row.team,
        destination=row.destination,
        job=row.job,
        pattern=row.pattern,
        enabled=row.enabled,
    )


def version_of(route: RouteDefinition, *, number: int, source: str, since_set: int, now: datetime) -> RouteVersion:
    """A new version of a route, in force from that set on."""
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
    """Write new and changed versions now, within the transaction.

    An ended version is written before the one that follows it: the schema allows one in force.
    """
    session.add_all(versions)
    session.flush()


def bump(session: Session) -> int:
    """Begin a new route set and return its number. The row lock makes concurrent changes wait for each other."""
    session.execute(update(RouteSetVersion).values(version=RouteSetVersion.version + 1))
    return current_version(session)


def highest_version(session: Session, *, team: str, name: str) -> int:
    """The newest version ever given to a team's route of a name; 0 for one that is new."""
    named = (RouteVersion.team == team, RouteVersion.name == name)
    return session.scalar(select(func.max(RouteVersion.version)).where(*named)) or 0


def highest_versions(session: Session) -> dict[tuple[str, str], int]:
    """The newest version ever given to each route, by team and name, so that a returning one goes on counting."""
    newest = select(RouteVersion.team, RouteVersion.name, func.max(RouteVersion.version))
    found = session.execute(newest.group_by(RouteVersion.team, RouteVersion.name))
    return {(team, name): version for team, name, version in found}
