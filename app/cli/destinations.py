"""`waylink destinations`: where teams take their jobs."""

from contextlib import closing
from typing import Final

import click

from app.cli.lazy import Listing
from app.cli.opening import open_current
from app.cli.options import as_table
from app.cli.orphaned_definitions import print_marked
from app.config.loading import load_database
from app.db.read import definitions
from app.db.read.definitions import DefinitionFilters

ACTS: Final = {
    "add": (
        "app.cli.destination_actions:add_destination",
        "Add a destination of a team: over Celery with --queue, over HTTP with --url.",
    ),
    "change": ("app.cli.destination_actions:change_destination", "Change a destination."),
    "check": ("app.cli.destination_actions:check_destinations", "Connect to destinations, and send nothing."),
    "disable": (
        "app.cli.destination_actions:disable_destination",
        "Park the jobs of a destination until it is enabled.",
    ),
    "enable": (
        "app.cli.destination_actions:enable_destination",
        "Let the jobs of a destination go out again, parked ones too.",
    ),
    "expire-secret": (
        "app.cli.destination_actions:expire_secret",
        "End a signing secret at once, such as one that leaked.",
    ),
    "remove": ("app.cli.destination_actions:remove_destination", "Retire a destination that no route in force feeds."),
    "rotate-secret": ("app.cli.destination_actions:rotate_secret", "Make a new signing secret."),
    "secrets": (
        "app.cli.destination_actions:list_secrets",
        "List the signing secrets of a destination, newest first: ids and times, never what they are.",
    ),
    "test": (
        "app.cli.destination_actions:test_destination",
        "Send a signed test job over HTTP and show what is answered.",
    ),
}


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@click.option("--team", help="Of this team.")
@as_table
@click.pass_context
def destinations(context: click.Context, /, *, team: str | None, as_json: bool) -> None:
    """List where teams take their jobs; add, change and remove those that waylink.toml does not define.

    A retired destination is in no route any more.
    """
    if context.invoked_subcommand:
        return
    with closing(open_current(load_database())) as database, database.read() as session:
        rows = definitions.destinations(session, DefinitionFilters(limit=10_000, team=team, in_force=None))
    columns = ("team", "name", "kind", "queue", "url", "source", "disabled_at", "retired_at")
    print_marked(rows, columns, kind="destinations", as_json=as_json)
