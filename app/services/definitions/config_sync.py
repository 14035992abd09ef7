"""Record the teams, destinations and routes of waylink.toml. An unchanged file changes nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy.orm import Session

from app.config.secret_sources import NONE_CONFIGURED, SecretsByDestination
from app.db import audit, team_portals
from app.db import destinations as destination_rows
from app.db import routes as route_rows
from app.db import teams as team_rows
from app.db.models import Destination, RouteVersion, Team
from app.db.routes import API, FILE, RouteDefinition
from app.sealing import Sealer, sealer_without_key
from app.services.definitions import config_secrets
from app.services.definitions.config_plan import (
    Changes,
    CurrentDefinitions,
    DestinationDefinition,
    FileDefinitions,
    OrphanPolicy,
    plan,
    same_destination,
)


def recorded(session: Session, sealer: Sealer) -> CurrentDefinitions:
    """The recorded definitions, with opened secrets."""
    routes = {(row.team, row.name): row for row in route_rows.live(session)}
    destinations = destination_rows.get_all(session)
    secrets = config_secrets.held(session, sealer, destinations)
    return CurrentDefinitions(team_rows.get_all(session), destinations, routes, route_rows.of_file(session), secrets)


def apply_file(
    session: Session,
    *,
    destinations: Mapping[tuple[str, str], DestinationDefinition],
    routes: Sequence[RouteDefinition],
    teams: Collection[str] = (),
    secrets: SecretsByDestination | None = None,
    sealer: Sealer | None = None,
    orphans: OrphanPolicy = OrphanPolicy.KEEP,
    actor: str = FILE,
    now: datetime,
) -> Changes:
    """Record what the file defines. Old versions of changed and removed routes are kept for explanations.

    `sealer`: for HTTP destinations and teams' own brokers. Raises ConfigurationError without it.
    """
    sealer = sealer or sealer_without_key()
    wanted = FileDefinitions(destinations, {row.key: row for row in routes}, teams, secrets or {})
    route_rows.lock_definitions(session)
    before = recorded(session, sealer)
    changes = plan(before, wanted, orphans=orphans)
    _apply_teams(session, before.teams, wanted, changes, now)
    _apply_destinations(session, before.destinations, wanted.destinations, changes, now)
    _apply_secrets(session, sealer, before, wanted, actor=actor, now=now)
    for named in changes.released:
        before.routes[_key(named)].source = API
    if changes.added or changes.changed or changes.removed:
        _apply_routes(session, before.routes, wanted.routes, changes, now)
    return changes


def record_applied(session: Session, changes: Changes, *, actor: str, now: datetime) -> None:
    """Record applied changes in the audit, if there are any."""
    if changes:
        detail = {f"{kind}_{verb}": list(names) for kind, verb, names in changes.parts()}
        subject = str(route_rows.current_version(session))
        audit.record(session, actor=actor, action="routes.applied", subject=subject, now=now, detail=detail)


def _apply_teams(
    session: Session, known: Mapping[str, Team], wanted: FileDefinitions, changes: Changes, now: datetime
) -> None:
    new = [Team(name=name, source=FILE, created_at=now) for name in sorted(wanted.names.teams) if name not in known]
    for name in wanted.names.teams & known.keys():
        known[name].source, known[name].retired_at = FILE, None
    for name in changes.teams_removed:
        known[name].retired_at = now
    for name in changes.teams_released:
        known[name].source = API
    team_rows.save(session, *new, *known.values())
    team_portals.drop_of_teams(session, list(changes.teams_removed))


def _apply_destinations(
    session: Session,
    known: Mapping[tuple[str, str], Destination],
    wanted: Mapping[tuple[str, str], DestinationDefinition],
    changes: Changes,
    now: datetime,
) -> None:
    new = []
    for key, row in wanted.items():
        team, name = key
        known_row = known.get(key)
        if known_row is None:
            new.append(Destination(team=team, name=name, **asdict(row), source=FILE, created_at=now))
        elif known_row.retired_at is not None or not same_destination(known_row, row):
            for column, value in asdict(row).items():
                setattr(known_row, column, value)
            known_row.source, known_row.retired_at = FILE, None
            known_row.version, known_row.updated_at = known_row.version + 1, now
    for key, known_row in known.items():
        if "/".join(key) in changes.destinations_removed:
            known_row.retired_at = now
        if "/".join(key) in changes.destinations_released:
            known_row.source = API
    destination_rows.save(session, *new, *known.values())


def _apply_secrets(
    session: Session, sealer: Sealer, before: CurrentDefinitions, wanted: FileDefinitions, *, actor: str, now: datetime
) -> None:
    rows = destination_rows.get_all(session)
    for key in sorted(wanted.destinations):
        was, configured = before.secrets.get(key, NONE_CONFIGURED), wanted.secrets.get(key, NONE_CONFIGURED)
        config_secrets.record(session, sealer, rows[key], before=was, wanted=configured, actor=actor, now=now)


def _apply_routes(
    session: Session,
    live: Mapping[tuple[str, str], RouteVersion],
    wanted: Mapping[tuple[str, str], RouteDefinition],
    changes: Changes,
    now: datetime,
) -> None:
    route_set = route_rows.bump(session)
    ended = [live[key] for key in map(_key, (*changes.changed, *changes.removed))]
    for version in ended:
        version.until_set = route_set
    route_rows.save(session, *ended)
    highest = route_rows.highest_versions(session)
    begun = [
        route_rows.version_of(wanted[key], number=highest.get(key, 0) + 1, source=FILE, since_set=route_set, now=now)
        for key in map(_key, (*changes.added, *changes.changed))
    ]
    route_rows.save(session, *begun)


def _key(named: str) -> tuple[str, str]:
    """The key of a `team/name`."""
    team, _, name = named.partition("/")
    return team, name
