"""`waylink secrets`: the key that encrypts teams' secrets in the database."""

from contextlib import closing

import click

from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_sealing
from app.runtime.wiring import sealer_of
from app.sealing import new_key
from app.services.definitions import resealing
from app.services.definitions.resealing import SealedValues


@click.group(invoke_without_command=True)
@AS_JSON
@click.pass_context
def secrets(context: click.Context, /, *, as_json: bool) -> None:
    """Say with which of the keys in WAYLINK_SECRET_KEY teams' secrets are encrypted. Exit 1 if none opens one."""
    if context.invoked_subcommand:
        return
    settings = load_sealing()
    sealer = sealer_of(settings)
    with closing(open_current(settings)) as database:
        found = resealing.count(database, sealer)
    shown = {"newest_key": found.newest, "older_keys": found.older, "unreadable": found.unreadable}
    print_one(shown, as_json=as_json)
    _end(context, found)


@secrets.command("new-key")
def make_key() -> None:
    """Print a new key. Put it in front of those in WAYLINK_SECRET_KEY, for every process, then reseal."""
    click.echo(new_key())


@secrets.command("reseal")
@AS_JSON
@click.pass_context
def reseal_values(context: click.Context, /, *, as_json: bool) -> None:
    """Encrypt everything with the newest key. Older keys can be left out of WAYLINK_SECRET_KEY afterwards."""
    settings = load_sealing()
    sealer = sealer_of(settings)
    with closing(open_current(settings)) as database:
        done = resealing.reseal(database, sealer, actor=cli_actor(), now=utc_now())
    print_one({"resealed": done.older, "unchanged": done.newest, "unreadable": done.unreadable}, as_json=as_json)
    _end(context, done)


def _end(context: click.Context, found: SealedValues) -> None:
    if found.unreadable:
        context.exit(1)
