"""Record the teams, destinations and routes of waylink.toml; an unchanged file changes nothing."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from app.db import audit
from app.db import routes as route_rows
from app.db.models import Destination, RouteVersion, Team
from app.db.routes import API, FILE, RouteRow
from app.given import NOTHING, GivenSecrets
from app.sealing import Sealer, sealer_without_key
from app.services import given_secrets


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """A destination as the file defines it: its columns."""

    kind: str
    queue: str | None = None
    url: str | None = None
    timeout_seconds: float | None = None
    rate_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What applying a file does, by name; destinations as `team/name`.

    A removed one is kept for what points to it. A released one is no longer the file's, and stays for routes or
    destinations that are managed by the API.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
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
    """The destinations, by team and name, and the routes of waylink.toml, its teams, and the secrets it names."""

    destinations: Mapping[tuple[str, str], DestinationRow]
    routes: Mapping[str, RouteRow]
    teams: Collection[str] = ()
    secrets: GivenSecrets = field(default_factory=dict)

    @property
    def all_teams(self) -> set[str]:
        return {*self.teams, *(team for team, _ in self.destinations)}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is there, of the file or not, as rows of the session's: routes in force, the others retired or not."""

    teams: Mapping[str, Team]
    destinations: Mapping[tuple[str, str], Destination]
    routes: Mapping[str, RouteVersion]
    secrets: GivenSecrets = field(default_factory=dict)


def recorded(session: Session, sealer: Sealer) -> Recorded:
    routes = {row.name: row for row in route_rows.live(session)}
    destinations = route_rows.destinations(session)
    secrets = given_secrets.held(session, sealer, destinations)
    return Recorded(route_rows.teams(session), destinations, routes, secrets)


def plan(before: Recorded, wanted: Wanted) -> Changes:
    """What applying the file would do. What the API manages is taken over where the file names it."""
    routes, destinations, teams = wanted.routes, wanted.destinations, wanted.all_teams
    known_teams = {name: one for name, one in before.teams.items() if one.retired_at is None}
    known = {key: one for key, one in before.destinations.items() if one.retired_at is None}
    others = [one for name, one in before.routes.items() if one.source != FILE and name not in routes]
    used = {(one.team, one.destination) for one in others}
    left = {key for key, one in known.items() if one.source == FILE and key not in destinations}
    busy = {team for team, _ in used} | {key[0] for key, one in known.items() if one.source != FILE}
    left_teams = {name for name, one in known_teams.items() if one.source == FILE and name not in teams}
    return Changes(
        added=_names(routes.keys() - before.routes.keys()),
        changed=_names(
            name for name in routes.keys() & before.routes.keys() if not _same(before.routes[name], routes[name])
        ),
        removed=_names(name for name, one in before.routes.items() if one.source == FILE and name not in routes),
        destinations_added=_names("/".join(key) for key in destinations.keys() - known.keys()),
        destinations_changed=_names(
            "/".join(key)
            for key in destinations.keys() & known.keys()
            if not (_same_destination(known[key], destinations[key]) and _same_secrets(key, before, wanted))
        ),
        destinations_removed=_names("/".join(key) for key in left - used),
        destinations_released=_names("/".join(key) for key in left & used),
        teams_added=_names(teams - known_teams.keys()),
        teams_removed=_names(left_teams - busy),
        teams_released=_names(left_teams & busy),
    )


def apply_file(
    session: Session,
    *,
    destinations: Mapping[tuple[str, str], DestinationRow],
    routes: Sequence[RouteRow],
    teams: Collection[str] = (),
    secrets: GivenSecrets | None = None,
    sealer: Sealer | None = None,
    actor: str = FILE,
    now: datetime,
) -> Changes:
    """Make the recorded routes those of the file. A changed or removed route keeps its old version for explanations.

    sealer: needed where a destination takes HTTP or has a broker of its own. Raises ConfigurationError without one.
    """
    sealer = sealer or sealer_without_key()
    wanted = Wanted(destinations, {row.name: row for row in routes}, teams, secrets or {})
    route_rows.lock_definitions(session)
    before = recorded(session, sealer)
    changes = plan(before, wanted)
    _apply_teams(session, before.teams, wanted, changes, now)
    _apply_destinations(session, before.destinations, wanted.destinations, changes, now)
    _apply_secrets(session, sealer, before, wanted, actor=actor, now=now)
    if changes.added or changes.changed or changes.removed:
        _apply_routes(session, before.routes, wanted.routes, changes, now)
    return changes


def record_applied(session: Session, changes: Changes, *, actor: str, now: datetime) -> None:
    """Note for the audit what was applied, if anything was."""
    if changes:
        detail = {f"{kind}_{verb}": list(names) for kind, verb, names in changes.parts()}
        subject = str(route_rows.current_version(session))
        audit.record(session, actor=actor, action="routes.applied", subject=subject, now=now, detail=detail)


def _apply_teams(session: Session, known: Mapping[str, Team], wanted: Wanted, changes: Changes, now: datetime) -> None:
    for name in sorted(wanted.all_teams):
        if name not in known:
            session.add(Team(name=name, source=FILE, created_at=now))
        else:
            known[name].source, known[name].retired_at = FILE, None
    for name in changes.teams_removed:
        known[name].retired_at = now
    for name in changes.teams_released:
        known[name].source = API
    session.flush()


def _apply_destinations(
    session: Session,
    known: Mapping[tuple[str, str], Destination],
    wanted: Mapping[tuple[str, str], DestinationRow],
    changes: Changes,
    now: datetime,
) -> None:
    for key, row in wanted.items():
        team, name = key
        one = known.get(key)
        if one is None:
            session.add(Destination(team=team, name=name, **asdict(row), source=FILE, created_at=now))
        elif one.retired_at is not None or not _same_destination(one, row):
            for column, value in asdict(row).items():
                setattr(one, column, value)
            one.source, one.retired_at, one.version, one.updated_at = FILE, None, one.version + 1, now
    for key, one in known.items():
        if "/".join(key) in changes.destinations_removed:
            one.retired_at = now
        if "/".join(key) in changes.destinations_released:
            one.source = API
    session.flush()


def _apply_secrets(
    session: Session, sealer: Sealer, before: Recorded, wanted: Wanted, *, actor: str, now: datetime
) -> None:
    rows = route_rows.destinations(session)
    for key in sorted(wanted.destinations):
        was, given = before.secrets.get(key, NOTHING), wanted.secrets.get(key, NOTHING)
        given_secrets.record(session, sealer, rows[key], before=was, wanted=given, actor=actor, now=now)


def _apply_routes(
    session: Session,
    live: Mapping[str, RouteVersion],
    wanted: Mapping[str, RouteRow],
    changes: Changes,
    now: datetime,
) -> None:
    route_set = route_rows.bump(session)
    for name in (*changes.changed, *changes.removed):
        live[name].until_set = route_set
    session.flush()  # the schema allows one living version per name
    versions = route_rows.highest_versions(session)
    for name in (*changes.added, *changes.changed):
        number = versions.get(name, 0) + 1
        session.add(route_rows.version_of(wanted[name], number=number, source=FILE, since_set=route_set, now=now))
    session.flush()


def _names(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(found))


def _same_destination(one: Destination, wanted: DestinationRow) -> bool:
    return one.source == FILE and all(getattr(one, column) == value for column, value in asdict(wanted).items())


def _same_secrets(key: tuple[str, str], before: Recorded, wanted: Wanted) -> bool:
    was, given = before.secrets.get(key, NOTHING), wanted.secrets.get(key, NOTHING)
    return given_secrets.same(was, given, kind=wanted.destinations[key].kind)


def _same(live: RouteVersion, wanted: RouteRow) -> bool:
    return live.source == FILE and route_rows.asked(live) == wanted
