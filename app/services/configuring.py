"""Record the teams, destinations and routes of waylink.toml; an unchanged file changes nothing."""

from collections.abc import Mapping, Sequence
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
    """What applying a file did, by name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def apply_file(
    session: Session,
    *,
    destinations: Mapping[tuple[str, str], DestinationRow],
    routes: Sequence[RouteRow],
    now: datetime,
) -> Changes:
    """Make the recorded routes those of the file. A changed or removed route keeps its old version for explanations."""
    _apply_destinations(session, destinations, now)
    live = {row.name: row for row in route_rows.live(session) if row.source == FILE}
    wanted = {row.name: row for row in routes}
    changes = Changes(
        added=tuple(sorted(wanted.keys() - live.keys())),
        changed=tuple(sorted(name for name in wanted.keys() & live.keys() if not _same(live[name], wanted[name]))),
        removed=tuple(sorted(live.keys() - wanted.keys())),
    )
    if not changes:
        return changes
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
    return changes


def _apply_destinations(session: Session, wanted: Mapping[tuple[str, str], DestinationRow], now: datetime) -> None:
    route_rows.ensure_teams(session, {team for team, _ in wanted}, now=now)
    known = route_rows.destinations(session)
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


def _same(live: RouteVersion, wanted: RouteRow) -> bool:
    return (live.team, live.destination, live.job, live.pattern) == (
        wanted.team,
        wanted.destination,
        wanted.job,
        dict(wanted.pattern),
    )
