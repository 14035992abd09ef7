"""The changes that applying waylink.toml makes, from the recorded definitions and the file's.

An orphan came from the file and is no longer in it. It stays in force until an operator removes or releases it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from app.config.secret_sources import NONE_CONFIGURED, SecretsByDestination
from app.db import routes as route_rows
from app.db.models import Destination, RouteVersion, Team
from app.db.routes import FILE, RouteDefinition
from app.domain.definitions import DefinedNames
from app.services.definitions import config_secrets


@dataclass(frozen=True, slots=True)
class DestinationDefinition:
    """The columns of a destination in the file."""

    kind: str
    queue: str | None = None
    url: str | None = None
    timeout_seconds: float | None = None
    rate_per_second: float | None = None


class OrphanPolicy(StrEnum):
    """The treatment of orphans when a file is applied."""

    KEEP = "keep"  # they stay in force, read-only
    REMOVE = "remove"  # they end; those that routes or destinations of the API need are released
    RELEASE = "release"  # they stay in force, and become editable by the API


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes by applying a file, by name; destinations and routes as `team/name`.

    Removed ones are kept for the rows that point to them. Released ones stay in force, and are no longer the file's.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    destinations_added: tuple[str, ...] = ()
    destinations_changed: tuple[str, ...] = ()
    destinations_removed: tuple[str, ...] = ()
    destinations_released: tuple[str, ...] = ()
    teams_added: tuple[str, ...] = ()
    teams_removed: tuple[str, ...] = ()
    teams_released: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(True for _ in self.parts())

    def parts(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Kind, verb and names of each change: teams, destinations, routes."""
        for kind, prefix in (("teams", "teams_"), ("destinations", "destinations_"), ("routes", "")):
            for verb in ("added", "changed", "removed", "released"):
                if names := getattr(self, f"{prefix}{verb}", ()):
                    yield kind, verb, names


@dataclass(frozen=True, slots=True)
class FileDefinitions:
    """The teams, destinations and routes of waylink.toml, the latter by team and name, and its secrets."""

    destinations: Mapping[tuple[str, str], DestinationDefinition]
    routes: Mapping[tuple[str, str], RouteDefinition]
    teams: Collection[str] = ()
    secrets: SecretsByDestination = field(default_factory=dict)

    @property
    def names(self) -> DefinedNames:
        teams = {*self.teams, *(team for team, _ in self.destinations)}
        return DefinedNames(frozenset(teams), frozenset(self.destinations), frozenset(self.routes))


@dataclass(frozen=True, slots=True)
class CurrentDefinitions:
    """The recorded definitions, of the file or not: routes in force, teams and destinations retired or not."""

    teams: Mapping[str, Team]
    destinations: Mapping[tuple[str, str], Destination]
    routes: Mapping[tuple[str, str], RouteVersion]
    of_file: DefinedNames  # those in force that came from the file
    secrets: SecretsByDestination = field(default_factory=dict)


def plan(before: CurrentDefinitions, wanted: FileDefinitions, *, orphans: OrphanPolicy) -> Changes:
    """The changes that applying the file makes. Definitions of the API that the file names become the file's."""
    routes, destinations, teams = wanted.routes, wanted.destinations, wanted.names.teams
    known_teams = {name for name, team in before.teams.items() if team.retired_at is None}
    known = {key: destination for key, destination in before.destinations.items() if destination.retired_at is None}
    removed, released = _ending(before, wanted, orphans)
    return Changes(
        added=_joined(routes.keys() - before.routes.keys()),
        changed=_joined(
            key for key in routes.keys() & before.routes.keys() if not _same(before.routes[key], routes[key])
        ),
        removed=_joined(removed.routes),
        released=_joined(released.routes),
        destinations_added=_joined(destinations.keys() - known.keys()),
        destinations_changed=_joined(
            key
            for key in destinations.keys() & known.keys()
            if not (same_destination(known[key], destinations[key]) and _same_secrets(key, before, wanted))
        ),
        destinations_removed=_joined(removed.destinations),
        destinations_released=_joined(released.destinations),
        teams_added=tuple(sorted(teams - known_teams)),
        teams_removed=tuple(sorted(removed.teams)),
        teams_released=tuple(sorted(released.teams)),
    )


def _ending(
    before: CurrentDefinitions, wanted: FileDefinitions, orphans: OrphanPolicy
) -> tuple[DefinedNames, DefinedNames]:
    """The orphans to remove, and those to release."""
    found = before.of_file - wanted.names
    if orphans is OrphanPolicy.KEEP:
        return DefinedNames(), DefinedNames()
    if orphans is OrphanPolicy.RELEASE:
        return DefinedNames(), found
    others = [route for key, route in before.routes.items() if route.source != FILE and key not in wanted.routes]
    used = {(route.team, route.destination) for route in others}
    in_force = [row for row in before.destinations.values() if row.source != FILE and row.retired_at is None]
    busy = {team for team, _ in used} | {destination.team for destination in in_force}
    return (
        DefinedNames(found.teams - busy, found.destinations - used, found.routes),
        DefinedNames(found.teams & busy, found.destinations & used),
    )


def _joined(keys: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(map("/".join, keys)))


def same_destination(row: Destination, wanted: DestinationDefinition) -> bool:
    """True if a destination is the file's and has these columns."""
    return row.source == FILE and all(getattr(row, column) == value for column, value in asdict(wanted).items())


def _same_secrets(key: tuple[str, str], before: CurrentDefinitions, wanted: FileDefinitions) -> bool:
    was, configured = before.secrets.get(key, NONE_CONFIGURED), wanted.secrets.get(key, NONE_CONFIGURED)
    return config_secrets.same(was, configured, kind=wanted.destinations[key].kind)


def _same(live: RouteVersion, wanted: RouteDefinition) -> bool:
    return live.source == FILE and route_rows.asked(live) == wanted
