"""`waylink routes plan|apply`: the changes that waylink.toml calls for, shown or made."""

from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import click
from sqlalchemy.orm import Session

from app.cli.bulk_actions import require_consent
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON
from app.cli.output import print_rows
from app.clock import utc_now
from app.config.loading import Definitions, load_definitions
from app.config.secret_sources import NONE_CONFIGURED
from app.config.settings_groups import SealingSettings
from app.db import routes as route_rows
from app.db.routes import FILE, RouteDefinition, asked
from app.errors import ConfigurationError, Conflict, Problem
from app.runtime.wiring import destinations_of, routes_of, sealer_of
from app.services.definitions import config_sync
from app.services.definitions.config_plan import (
    Changes,
    CurrentDefinitions,
    DestinationDefinition,
    FileDefinitions,
    OrphanPolicy,
    plan,
)
from app.services.definitions.config_secrets import described

_CHANGES: Final = {"added": "add", "changed": "change", "removed": "remove", "released": "release"}
_DESTINATION: Final = tuple(column.name for column in fields(DestinationDefinition))


def require_file(defined: Definitions) -> None:
    """Raises ConfigurationError where there is no waylink.toml: its absence must not remove what is in force."""
    if defined.path is None:
        what = f"there is no waylink.toml in {Path.cwd()}, and nothing is changed for a file that is not there"
        raise ConfigurationError([Problem("WAYLINK_CONFIG", what, "/etc/waylink/waylink.toml")])


def apply(
    session: Session,
    settings: SealingSettings,
    defined: Definitions,
    *,
    orphans: OrphanPolicy = OrphanPolicy.KEEP,
    expected: list[dict[str, Any]] | None = None,
) -> Changes:
    """Record what waylink.toml defines, with an audit entry. Without a file nothing changes.

    expected: the plan that was agreed to. Raises Conflict where the plan has changed since.
    """
    if defined.path is None:
        return Changes()
    if expected is not None:
        route_rows.lock_definitions(session)
        if planned(session, settings, defined, orphans=orphans) != expected:
            raise Conflict("teams, destinations or routes changed meanwhile: look at the plan again")
    now, actor = utc_now(), cli_actor()
    changes = config_sync.apply_file(
        session,
        destinations=destinations_of(defined.file),
        routes=routes_of(defined.file),
        teams=defined.file.teams,
        secrets=defined.secrets,
        sealer=sealer_of(settings),
        orphans=orphans,
        actor=actor,
        now=now,
    )
    config_sync.record_applied(session, changes, actor=actor, now=now)
    return changes


def planned(
    session: Session, settings: SealingSettings, defined: Definitions, *, orphans: OrphanPolicy
) -> list[dict[str, Any]]:
    """A row per change, with the members in force and those of the file."""
    routes = {route.key: route for route in routes_of(defined.file)}
    wanted = FileDefinitions(destinations_of(defined.file), routes, defined.file.teams, defined.secrets)
    before = config_sync.recorded(session, sealer_of(settings))
    rows: list[dict[str, Any]] = []
    for kind, verb, names in plan(before, wanted, orphans=orphans).parts():
        for name in names:
            was, will = _compared(kind, name, before, wanted)
            rows.append(_row(_CHANGES[verb], kind.removesuffix("s"), name, None if verb == "added" else was, will))
    return rows


def _compared(kind: str, name: str, before: CurrentDefinitions, wanted: FileDefinitions) -> tuple[Any, Any]:
    """The recorded and the wanted members of one change."""
    team, _, place = name.partition("/")
    if kind == "routes":
        old, new = before.routes.get((team, place)), wanted.routes.get((team, place))
        was = {**_asks(asked(old)), "source": old.source} if old else None
        return was, {**_asks(new), "source": FILE} if new else None
    if kind == "destinations":
        destination, row = before.destinations.get((team, place)), wanted.destinations.get((team, place))
        held = (
            {column: getattr(destination, column) for column in _DESTINATION} | {"source": destination.source}
            if destination
            else None
        )
        if row is None:
            return held, None
        given = wanted.secrets.get((team, place), NONE_CONFIGURED)
        was, will = described(before.secrets.get((team, place), NONE_CONFIGURED), given, kind=row.kind)
        return held and held | was, asdict(row) | {"source": FILE} | will
    return None, None


def _row(change: str, kind: str, name: str, before: Any, after: Any) -> dict[str, Any]:
    """The members that differ."""
    if before and after:
        differing = [member for member in after if before[member] != after[member]]
        before, after = ({member: side[member] for member in differing} for side in (before, after))
    return {"change": change, "kind": kind, "name": name, "before": before, "after": after}


def _asks(route: RouteDefinition) -> dict[str, Any]:
    """The members of a route that a change is shown with."""
    return {member: value for member, value in asdict(route).items() if member not in {"team", "name"}}


COLUMNS: Final = ("change", "kind", "name", "before", "after")
NAMED: Final = 10  # removals that the question names


@click.command("plan")
@click.option("--check", is_flag=True, help="Exit with 1 if there is something to apply.")
@AS_JSON
@click.pass_context
def plan_routes(context: click.Context, /, *, check: bool, as_json: bool) -> None:
    """Show what `waylink routes apply` would change, removals included, and change nothing."""
    settings, defined = load_definitions()
    require_file(defined)
    with closing(open_current(settings)) as database, database.read() as session:
        rows = planned(session, settings, defined, orphans=OrphanPolicy.REMOVE)
    print_rows(rows, COLUMNS, as_json=as_json)
    if check and rows:
        context.exit(1)


@click.command("apply")
@click.option("--yes", is_flag=True, help="Do not ask before what the file no longer has is removed.")
@click.option(
    "--keep",
    is_flag=True,
    help="Remove nothing: what the file no longer has is the API's and the commands' from now on.",
)
@AS_JSON
def apply_routes(*, yes: bool, keep: bool, as_json: bool) -> None:
    """Make the teams, destinations and routes of waylink.toml those in force.

    What came from the file and is no longer in it is removed, after the plan was shown and agreed to. `waylink migrate`
    and `waylink up` only add and change.
    """
    if yes and keep:
        raise click.UsageError("--yes is about removals, and --keep removes nothing: give one of them")
    settings, defined = load_definitions()
    require_file(defined)
    orphans = OrphanPolicy.RELEASE if keep else OrphanPolicy.REMOVE
    with closing(open_current(settings)) as database:
        with database.read() as session:
            rows = planned(session, settings, defined, orphans=orphans)
        if not as_json:
            print_rows(rows, COLUMNS, as_json=False)
        removed = [f"{one['kind']} {one['name']}" for one in rows if one["change"] == "remove"]
        if removed:
            more = f" and {len(removed) - NAMED} more" if len(removed) > NAMED else ""
            require_consent(f"Remove {', '.join(removed[:NAMED])}{more}?", yes=yes)
        with database.write() as session:
            apply(session, settings, defined, orphans=orphans, expected=rows)
    if as_json:
        print_rows(rows, COLUMNS, as_json=True)
