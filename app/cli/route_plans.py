"""What can be done with waylink.toml and what is in force: compare, and apply."""

from contextlib import closing
from typing import Final

import click

from app.cli.applying import apply, planned, require_file
from app.cli.bulk_acts import require_consent
from app.cli.opening import open_current
from app.cli.options import AS_JSON
from app.cli.output import print_rows
from app.config.loading import load_definitions
from app.services.definitions.config_plan import Orphans

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
        rows = planned(session, settings, defined, orphans=Orphans.REMOVE)
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
    orphans = Orphans.RELEASE if keep else Orphans.REMOVE
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
