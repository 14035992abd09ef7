"""What applying waylink.toml would do, decided from what is recorded and what the file says.

What came from the file and is no longer in it is an orphan. It stays in force until somebody says what becomes of it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from app.config.secret_sources import NONE_CONFIGURED, SecretsByDestination
from app.db import routes as route_rows
from app.db.models import Destination, RouteVersion, Team
from app.db.routes import FILE, RouteRow
from app.domain.definitions import Names
from app.services.definitions import config_secrets


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """A destination as the file defines it: its columns."""

    kind: str
    queue: str | None = None
    url: str | None = None
    timeout_seconds: float | None = None
    rate_per_second: float | None = None


class Orphans(StrEnum):
    """What applying a file does with what is no longer in it."""

    KEEP = "keep"  # nothing: they stay in force, read-only
    REMOVE = "remove"  # they end; what routes or destinations of the API need is released instead
    RELEASE = "release"  # they stay in force, and the API manages them from then on


@dataclass(frozen=True, slots=True)
class Changes:
    """What applying a file does, by name; destinations and routes as `team/name`.

    A removed one is kept for what points to it. A released one is no longer the file's, and stays in force.
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
        """Kind, verb and names of each part that changes something: teams, destinations, routes."""
        for kind, prefix in (("teams", "teams_"), ("destinations", "destinations_"), ("routes", "")):
            for verb in ("added", "changed", "removed", "released"):
                if names := getattr(self, f"{prefix}{verb}", ()):
                    yield kind, verb, names


@dataclass(frozen=True, slots=True)
class Wanted:
    """The destinations and routes of waylink.toml, by team and name, its teams, and the secrets it names."""

    destinations: Mapping[tuple[str, str], DestinationRow]
    routes: Mapping[tuple[str, str], RouteRow]
    teams: Collection[str] = ()
    secrets: SecretsByDestination = field(default_factory=dict)

    @property
    def names(self) -> Names:
        teams = {*self.teams, *(team for team, _ in self.destinations)}
        return Names(frozenset(teams), frozenset(self.destinations), frozenset(self.routes))


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is there, of the file or not, as rows of the session's: routes in force, the others retired or not."""

    teams: Mapping[str, Team]
    destinations: Mapping[tuple[str, str], Destination]
    routes: Mapping[tuple[str, str], RouteVersion]
    of_file: Names  # what of it is in force and came from the file
    secrets: SecretsByDestination = field(default_factory=dict)


def plan(before: Recorded, wanted: Wanted, *, orphans: Orphans) -> Changes:
    """What applying the file would do. What the API manages is taken over where the file names it."""
    routes, destinations, teams = wanted.routes, wanted.destinations, wanted.names.teams
    known_teams = {name for name, one in before.teams.items() if one.retired_at is None}
    known = {key: one for key, one in before.destinations.items() if one.retired_at is None}
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


def _ending(before: Recorded, wanted: Wanted, orphans: Orphans) -> tuple[Names, Names]:
    """The orphans that end, and those that become the API's."""
    found = before.of_file - wanted.names
    if orphans is Orphans.KEEP:
        return Names(), Names()
    if orphans is Orphans.RELEASE:
        return Names(), found
    others = [one for key, one in before.routes.items() if one.source != FILE and key not in wanted.routes]
    used = {(one.team, one.destination) for one in others}
    theirs = {key[0] for key, one in before.destinations.items() if one.source != FILE and one.retired_at is None}
    busy = {team for team, _ in used} | theirs
    return (
        Names(found.teams - busy, found.destinations - used, found.routes),
        Names(found.teams & busy, found.destinations & used),
    )


def _joined(keys: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(map("/".join, keys)))


def same_destination(one: Destination, wanted: DestinationRow) -> bool:
    return one.source == FILE and all(getattr(one, column) == value for column, value in asdict(wanted).items())


def _same_secrets(key: tuple[str, str], before: Recorded, wanted: Wanted) -> bool:
    was, given = before.secrets.get(key, NONE_CONFIGURED), wanted.secrets.get(key, NONE_CONFIGURED)
    return config_secrets.same(was, given, kind=wanted.destinations[key].kind)


def _same(live: RouteVersion, wanted: RouteRow) -> bool:
    return live.source == FILE and route_rows.asked(live) == wanted
