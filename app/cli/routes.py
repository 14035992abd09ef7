"""`waylink routes`: what is in force, and what the file would change."""

from contextlib import closing
from typing import Final

import click

from app.cli.lazy import Listing
from app.cli.opening import open_current
from app.cli.options import AS_JSON, ROUTE
from app.cli.orphans import print_marked
from app.cli.output import print_one
from app.config.loading import load_database
from app.db import routes as route_rows
from app.db.read.definitions import shown_route
from app.errors import NotFound
from app.targets import split_target

ACTS: Final = {
    "add": ("app.cli.route_edits:add_route", "Put a route of a team in force."),
    "apply": (
        "app.cli.applying:apply_routes",
        "Make the teams, destinations and routes of waylink.toml those in force.",
    ),
    "backfill": (
        "app.cli.backfilling:backfill",
        "Make the jobs of stored events that match a route now and have no job of it.",
    ),
    "change": ("app.cli.route_edits:change_route", "Change a route, by a new version."),
    "disable": ("app.cli.route_edits:disable_route", "Keep a route from making jobs."),
    "enable": ("app.cli.route_edits:enable_route", "Let a route make jobs again."),
    "explain": (
        "app.cli.explaining:explain_event",
        "Why each route matched an event or did not: every condition, what it expected and what it found.",
    ),
    "plan": (
        "app.cli.applying:plan_routes",
        "Show what `waylink routes apply` would change, removals included, and change nothing.",
    ),
    "remove": ("app.cli.route_edits:remove_route", "End a route."),
    "test": ("app.cli.explaining:test_pattern", "Try a pattern: JSON, or a file of it."),
}


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@click.option("--team", help="Of this team.")
@AS_JSON
@click.pass_context
def routes(context: click.Context, /, *, team: str | None, as_json: bool) -> None:
    """List the routes in force; see what the file changes, why an event matched, what a pattern would match."""
    if context.invoked_subcommand:
        return
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = [shown_route(one) for one in route_rows.live(session) if team in {None, one.team}]
    columns = ("team", "name", "version", "destination", "job", "pattern", "enabled", "source")
    print_marked(rows, columns, kind="routes", as_json=as_json)


@routes.command("show")
@ROUTE
@AS_JSON
def show_route(route: str, *, as_json: bool) -> None:
    """All versions of a route, newest first, with the route sets each was in force for."""
    team, name = split_target("route", route)
    with closing(open_current(load_database())) as database, database.read() as session:
        versions = [shown_route(one) for one in route_rows.versions(session, team=team, name=name)]
    if not versions:
        raise NotFound("route", route)
    print_one(
        {"team": team, "name": name, "in_force": versions[0]["until_set"] is None, "versions": versions},
        as_json=as_json,
    )
