"""`waylink notify`: the channels of notifications, and test messages to them."""

import sys
from contextlib import closing

import click

from app.cli.lazy import Listing
from app.cli.opening import cli_actor, open_database
from app.cli.options import AS_JSON, as_table
from app.cli.output import print_list, print_rows
from app.config.loading import diagnose
from app.config.settings import Settings
from app.errors import ConfigurationError, Conflict
from app.runtime.notifications import channels_of, tester_of
from app.services.notifying import shown

COLUMNS = ("channel", "kind", "state", "age:sent_at", "failures", "under_way", "problem", "levels", "after_seconds")


@click.group(cls=Listing, invoke_without_command=True)
@as_table
@click.pass_context
def notify(context: click.Context, *, as_json: bool) -> None:
    """List the channels of notifications; `waylink notify test` sends a message to them."""
    if context.invoked_subcommand is not None:
        return
    with closing(open_database()) as database, database.read() as session:
        rows = shown.channels(session, channels_of(_settings()))
    print_list(rows, COLUMNS, as_json=as_json)


@notify.command("test")
@click.argument("channel", required=False)
@AS_JSON
def test_channel(channel: str | None, *, as_json: bool) -> None:
    """Send a test message to a CHANNEL, or to all, and show what is answered. Exit 1 if one is not taken.

    What waits for a channel that takes it is sent at once.
    """
    with closing(open_database()) as database:
        tester = tester_of(_settings())
        chosen = tester.chosen(channel)
        if not chosen:
            raise Conflict("no channel is configured: [notify.channels.<name>] of waylink.toml makes one")
        rows = [tester.test(database, one, actor=cli_actor()) for one in chosen]
    print_rows(rows, ("channel", "kind", "taken", "answer", "latency_ms"), as_json=as_json)
    sys.exit(0 if all(row["taken"] for row in rows) else 1)


def _settings() -> Settings:
    """All settings; what is wrong elsewhere does not matter here. Raises ConfigurationError for waylink.toml."""
    found = diagnose(warn=False)  # the database was opened before, which has named unknown variables
    if not found.file_read:
        raise ConfigurationError(found.problems)
    return found.settings
