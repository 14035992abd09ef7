"""Record the teams, destinations and routes of waylink.toml; an unchanged file changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from app.db import routes as route_rows
from app.db.models import Destination, RouteVersion
from app.db.routes import FILE, RouteRow


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """A destination as the file defines it."""

    kind: str
    queue: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What applying a file does, by name; destinations as `team/name`. A removed one is kept for what points to it."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    destinations_added: tuple[str, ...] = ()
    destinations_changed: tuple[str, ...] = ()
    destinations_removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any((*self.of_routes, *self.of_destinations))

    @property
    def of_routes(self) -> tuple[tuple[str, ...], ...]:
        """Added, changed and removed."""
        return self.added, self.changed, self.removed

    @property
    def of_destinations(self) -> tuple[tuple[str, ...], ...]:
        """Added, changed and removed."""
        return self.destinations_added, self.destinations_changed, self.destinations_removed


@dataclass(frozen=True, slots=True)
class Wanted:
    """The destinations, by team and name, and the routes of waylink.toml."""

    destinations: Mapping[tuple[str, str], DestinationRow]
    routes: Mapping[str, RouteRow]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is in force of the file's, as rows of the session's."""

    destinations: Mapping[tuple[str, str], Destination]  # of the file or not, retired or not
    routes: Mapping[str, RouteVersion]


def recorded(session: Session) -> Recorded:
    routes = {row.name: row for row in route_rows.live(session) if row.source == FILE}
    return Recorded(route_rows.destinations(session), routes)


def plan(before: Recorded, wanted: Wanted) -> Changes:
    """What applying the file would do."""
    routes, destinations = wanted.routes, wanted.destinations
    in_force = {key: one for key, one in before.destinations.items() if one.retired_at is None}
    same = {key for key in destinations.keys() & in_force.keys() if _same_destination(in_force[key], destinations[key])}
    return Changes(
        added=_names(routes.keys() - before.routes.keys()),
        changed=_names(
            name for name in routes.keys() & before.routes.keys() if not _same(before.routes[name], routes[name])
        ),
        removed=_names(before.routes.keys() - routes.keys()),
        destinations_added=_names("/".join(key) for key in destinations.keys() - in_force.keys()),
        destinations_changed=_names("/".join(key) for key in (destinations.keys() & in_force.keys()) - same),
        destinations_removed=_names(
            "/".join(key) for key, one in in_force.items() if one.source == FILE and key not in destinations
        ),
    )


def apply_file(
    session: Session,
    *,
    destinations: Mapping[tuple[str, str], DestinationRow],
    routes: Sequence[RouteRow],
    now: datetime,
) -> Changes:
    """Make the recorded routes those of the file. A changed or removed route keeps its old version for explanations."""
    wanted = Wanted(destinations, {row.name: row for row in routes})
    before = recorded(session)
    changes = plan(before, wanted)
    _apply_destinations(session, before.destinations, wanted.destinations, now)
    if any(changes.of_routes):
        _apply_routes(session, before.routes, wanted.routes, changes, now)
    return changes


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
        row = wanted[name]
        session.add(
            RouteVersion(
                name=name,
                version=versions.get(name, 0) + 1,
                team=row.team,
                destination=row.destination,
                job=row.job,
                pattern=dict(row.pattern),
                source=FILE,
                since_set=route_set,
                created_at=now,
            )
        )
    session.flush()


def _apply_destinations(
    session: Session,
    known: Mapping[tuple[str, str], Destination],
    wanted: Mapping[tuple[str, str], DestinationRow],
    now: datetime,
) -> None:
    route_rows.ensure_teams(session, {team for team, _ in wanted}, now=now)
    for key, row in wanted.items():
        if key not in known:
            team, name = key
            session.add(Destination(team=team, name=name, kind=row.kind, queue=row.queue, source=FILE, created_at=now))
        else:
            known[key].kind, known[key].queue, known[key].retired_at = row.kind, row.queue, None
    for key, one in known.items():
        if key not in wanted and one.source == FILE and one.retired_at is None:
            one.retired_at = now
    session.flush()


def _names(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(found))


def _same_destination(one: Destination, wanted: DestinationRow) -> bool:
    return (one.kind, one.queue) == (wanted.kind, wanted.queue)


def _same(live: RouteVersion, wanted: RouteRow) -> bool:
    return (live.team, live.destination, live.job, live.pattern) == (
        wanted.team,
        wanted.destination,
        wanted.job,
        dict(wanted.pattern),
    )
