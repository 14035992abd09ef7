"""`waylink teams`: the subscribers."""

from contextlib import closing
from typing import Final

import click

from app.cli.lazy import Listing
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, as_table
from app.cli.orphaned_definitions import print_marked
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_database
from app.db.read import definitions
from app.db.read.definitions import DefinitionFilters, shown_team
from app.services.definitions import teams as defining
from app.services.definitions.editor import Editor

PORTALS: Final = {
    "end-session": ("app.cli.team_portals:end_session", "End one session of a team's portal at once."),
    "link": (
        "app.cli.team_portals:make_link",
        "Print a link that opens a team's portal: the console for that team, without an account.",
    ),
    "links": (
        "app.cli.team_portals:list_links",
        "List the links that open a team's portal, newest first, without their secrets.",
    ),
    "portal": (
        "app.cli.team_portals:portal",
        "Show a team's portal, or change its name, its colour and the origins whose pages may embed it.",
    ),
    "revoke-link": (
        "app.cli.team_portals:revoke_link",
        "End a link to a team's portal, and the sessions that it opened, at once.",
    ),
    "sessions": (
        "app.cli.team_portals:list_sessions",
        "List the browsers in which a team's portal is open, newest first.",
    ),
}


@click.group(cls=Listing, lazy=PORTALS, invoke_without_command=True)
@click.option("--removed", is_flag=True, help="Those that were removed, instead of those that are there.")
@as_table
@click.pass_context
def teams(context: click.Context, /, *, removed: bool, as_json: bool) -> None:
    """List teams; add and remove those that waylink.toml does not define."""
    if context.invoked_subcommand:
        return
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = definitions.teams(session, DefinitionFilters(limit=10_000, in_force=not removed))
    columns = ("name", "source", "created_at", "retired_at")
    print_marked(rows, columns, kind="teams", as_json=as_json)


@teams.command("add")
@click.argument("name")
@AS_JSON
def add_team(name: str, *, as_json: bool) -> None:
    """Add a team; then give it destinations and routes."""
    with closing(open_current(load_database())) as database, database.write() as session:
        made = defining.add(session, name, editor=Editor(cli_actor()), now=utc_now())
        shown = shown_team(made)
    print_one(shown, as_json=as_json)


@teams.command("remove")
@click.argument("name")
@AS_JSON
def remove_team(name: str, *, as_json: bool) -> None:
    """Remove a team that has no routes, destinations or tokens any more. Its jobs stay on record."""
    with closing(open_current(load_database())) as database, database.write() as session:
        gone = defining.remove(session, name, editor=Editor(cli_actor()), now=utc_now())
        shown = shown_team(gone)
    print_one(shown, as_json=as_json)
