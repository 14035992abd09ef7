"""What commands that list rows share: their options, and the database."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from app.cli.lazy import LazyGroup
from app.cli.opening import open_current
from app.config.loading import load_database
from app.db.engine import Database

Command = TypeVar("Command", bound=Callable[..., Any])

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
LIMIT = click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
BEFORE = click.option("--before", metavar="ID", help="Go on after this row: older ones only.")


class Listing(LazyGroup):
    """A noun that lists where no command is given; whoever says `list` means the same."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args[1:] if args[:1] == ["list"] else args)


def choice(values: Iterable[Any]) -> click.Choice[str]:
    """One of these words, in any case; click itself would take members of an enumeration by their names in Python."""
    return click.Choice([str(value) for value in values], case_sensitive=False)


def open_database() -> Database:
    return open_current(load_database())


def connection_filters(command: Command) -> Command:
    for option in (
        click.option("--environment", help="Of this environment."),
        click.option("--integration", help="Of this integration."),
        click.option("--connection-id", help="Of this connection of Nango's."),
    ):
        command = option(command)
    return command
