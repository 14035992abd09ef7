"""`waylink routes` and `waylink destinations`: what is in force, and what the file would change."""

from contextlib import closing
from typing import Any

import click
from sqlalchemy.orm import Session

from app.cli.actors import cli_actor
from app.cli.explaining import explain_event, test_pattern
from app.cli.opening import open_current
from app.cli.output import print_one, print_rows
from app.clock import utc_now
from app.configuration import load
from app.db import audit
from app.db import routes as route_rows
from app.db.models import Destination, RouteVersion
from app.errors import NotFound
from app.services import configuring
from app.services.configuring import Changes, Wanted
from app.settings import Settings
from app.wiring import destinations_of, routes_of

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@click.option("--team", help="Of this team.")
@_JSON
@click.pass_context
def routes(context: click.Context, /, *, team: str | None, as_json: bool) -> None:
    """List the routes in force; see what the file changes, why an event matched, what a pattern would match."""
    if context.invoked_subcommand:
        return
    with closing(open_current(load())) as database, database.read() as session:
        rows = [_shown(one) for one in route_rows.live(session) if team in {None, one.team}]
    print_rows(rows, ("name", "version", "team", "destination", "job", "pattern", "source"), as_json=as_json)


routes.add_command(explain_event)
routes.add_command(test_pattern)


@routes.command("show")
@click.argument("name")
@_JSON
def show_route(name: str, *, as_json: bool) -> None:
    """All versions of a route, newest first, with the route sets each was in force for."""
    with closing(open_current(load())) as database, database.read() as session:
        versions = [_shown(one) for one in route_rows.versions(session, name)]
    if not versions:
        raise NotFound("route", name)
    print_one({"name": name, "in_force": versions[0]["until_set"] is None, "versions": versions}, as_json=as_json)


@routes.command("plan")
@click.option("--check", is_flag=True, help="Exit with 1 if there is something to apply.")
@_JSON
@click.pass_context
def plan_routes(context: click.Context, /, *, check: bool, as_json: bool) -> None:
    """Show what applying waylink.toml would change, and change nothing."""
    settings = load()
    with closing(open_current(settings)) as database, database.read() as session:
        rows = _planned(session, settings)
    print_rows(rows, ("change", "kind", "name", "before", "after"), as_json=as_json)
    if check and rows:
        context.exit(1)


@routes.command("apply")
@_JSON
def apply_routes(*, as_json: bool) -> None:
    """Make the teams, destinations and routes of waylink.toml those in force. `waylink migrate` does so, too."""
    settings = load()
    with closing(open_current(settings)) as database, database.write() as session:
        rows = _planned(session, settings)
        changes = configuring.apply_file(
            session, destinations=destinations_of(settings), routes=routes_of(settings), now=utc_now()
        )
        if changes:
            route_set = str(route_rows.current_version(session))
            detail = {name: list(values) for name, values in _parts(changes).items()}
            audit.record(
                session, actor=cli_actor(), action="routes.applied", subject=route_set, now=utc_now(), detail=detail
            )
    print_rows(rows, ("change", "kind", "name", "before", "after"), as_json=as_json)


@click.command()
@click.option("--team", help="Of this team.")
@_JSON
def destinations(*, team: str | None, as_json: bool) -> None:
    """List where teams take their jobs; a retired destination is in no route any more."""
    with closing(open_current(load())) as database, database.read() as session:
        found = sorted(route_rows.destinations(session).items())
        rows = [_destination(one) for _, one in found if team in {None, one.team}]
    print_rows(rows, ("team", "name", "kind", "queue", "source", "retired_at"), as_json=as_json)


def _planned(session: Session, settings: Settings) -> list[dict[str, Any]]:
    """A row per change: what is in force, and what the file says."""
    wanted = Wanted(destinations_of(settings), {one.name: one for one in routes_of(settings)})
    before = configuring.recorded(session)
    changes = configuring.plan(before, wanted)
    rows: list[dict[str, Any]] = []
    for change, names in zip(("add", "change", "remove"), changes.of_destinations, strict=True):
        for name in names:
            team, _, place = name.partition("/")
            old, new = before.destinations.get((team, place)), wanted.destinations.get((team, place))
            was = {"kind": old.kind, "queue": old.queue} if old and change != "add" else None
            rows.append(_row(change, "destination", name, was, {"kind": new.kind, "queue": new.queue} if new else None))
    for change, names in zip(("add", "change", "remove"), changes.of_routes, strict=True):
        for name in names:
            rows.append(_row(change, "route", name, _asks(before.routes.get(name)), _asks(wanted.routes.get(name))))
    return rows


def _row(change: str, kind: str, name: str, before: Any, after: Any) -> dict[str, Any]:
    """Of what changes, the members that do."""
    if before and after:
        differing = [member for member in after if before[member] != after[member]]
        before, after = ({member: one[member] for member in differing} for one in (before, after))
    return {"change": change, "kind": kind, "name": name, "before": before, "after": after}


def _asks(route: Any) -> dict[str, Any] | None:
    """What a change of a route is about."""
    if route is None:
        return None
    where = {"team": route.team, "destination": route.destination}
    return {**where, "job": route.job, "pattern": dict(route.pattern)}


def _parts(changes: Changes) -> dict[str, tuple[str, ...]]:
    names = ("added", "changed", "removed")
    routes_ = dict(zip((f"routes_{one}" for one in names), changes.of_routes, strict=True))
    places = dict(zip((f"destinations_{one}" for one in names), changes.of_destinations, strict=True))
    return {name: found for name, found in {**routes_, **places}.items() if found}


def _shown(one: RouteVersion) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "team": one.team,
        "destination": one.destination,
        "job": one.job,
        "pattern": one.pattern,
        "source": one.source,
        "since_set": one.since_set,
        "until_set": one.until_set,
        "created_at": one.created_at.isoformat(),
    }


def _destination(one: Destination) -> dict[str, Any]:
    return {
        "team": one.team,
        "name": one.name,
        "kind": one.kind,
        "queue": one.queue,
        "source": one.source,
        "created_at": one.created_at.isoformat(),
        "retired_at": one.retired_at.isoformat() if one.retired_at else None,
    }
