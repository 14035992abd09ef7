"""`waylink routes`: what is in force, and what the file would change."""

from contextlib import closing

import click

from app.cli.applying import apply, planned
from app.cli.backfilling import backfill
from app.cli.explaining import explain_event, test_pattern
from app.cli.listings import Listing
from app.cli.opening import open_current
from app.cli.output import print_one, print_rows
from app.cli.route_edits import add_route, change_route, disable_route, enable_route, remove_route
from app.configuration import load
from app.db import routes as route_rows
from app.db.definitions import shown_route
from app.errors import NotFound

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=Listing, invoke_without_command=True)
@click.option("--team", help="Of this team.")
@_JSON
@click.pass_context
def routes(context: click.Context, /, *, team: str | None, as_json: bool) -> None:
    """List the routes in force; see what the file changes, why an event matched, what a pattern would match."""
    if context.invoked_subcommand:
        return
    with closing(open_current(load())) as database, database.read() as session:
        rows = [shown_route(one) for one in route_rows.live(session) if team in {None, one.team}]
    columns = ("name", "version", "team", "destination", "job", "pattern", "enabled", "source")
    print_rows(rows, columns, as_json=as_json)


for command in (
    explain_event,
    test_pattern,
    add_route,
    change_route,
    enable_route,
    disable_route,
    remove_route,
    backfill,
):
    routes.add_command(command)


@routes.command("show")
@click.argument("name")
@_JSON
def show_route(name: str, *, as_json: bool) -> None:
    """All versions of a route, newest first, with the route sets each was in force for."""
    with closing(open_current(load())) as database, database.read() as session:
        versions = [shown_route(one) for one in route_rows.versions(session, name)]
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
        rows = planned(session, settings)
    print_rows(rows, ("change", "kind", "name", "before", "after"), as_json=as_json)
    if check and rows:
        context.exit(1)


@routes.command("apply")
@_JSON
def apply_routes(*, as_json: bool) -> None:
    """Make the teams, destinations and routes of waylink.toml those in force. `waylink migrate` does so, too."""
    settings = load()
    with closing(open_current(settings)) as database, database.write() as session:
        rows = planned(session, settings)
        apply(session, settings)
    print_rows(rows, ("change", "kind", "name", "before", "after"), as_json=as_json)
