"""What can be done with waylink.toml and the routes in force: compare, and apply."""

from contextlib import closing

import click

from app.cli.applying import apply, planned
from app.cli.listings import AS_JSON
from app.cli.opening import open_current
from app.cli.output import print_rows
from app.configuration import load


@click.command("plan")
@click.option("--check", is_flag=True, help="Exit with 1 if there is something to apply.")
@AS_JSON
@click.pass_context
def plan_routes(context: click.Context, /, *, check: bool, as_json: bool) -> None:
    """Show what applying waylink.toml would change, and change nothing."""
    settings = load()
    with closing(open_current(settings)) as database, database.read() as session:
        rows = planned(session, settings)
    print_rows(rows, ("change", "kind", "name", "before", "after"), as_json=as_json)
    if check and rows:
        context.exit(1)


@click.command("apply")
@AS_JSON
def apply_routes(*, as_json: bool) -> None:
    """Make the teams, destinations and routes of waylink.toml those in force. `waylink migrate` does so, too."""
    settings = load()
    with closing(open_current(settings)) as database, database.write() as session:
        rows = planned(session, settings)
        apply(session, settings)
    print_rows(rows, ("change", "kind", "name", "before", "after"), as_json=as_json)
