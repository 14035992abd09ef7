"""Options and arguments that several commands share, and the callbacks that read their values."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import click

from app.clock import utc_now
from app.config.durations import duration
from app.domain.search import CONNECTION_FIELDS, Search, parse
from app.domain.states import ConnectionStatus
from app.errors import InvalidFields, InvalidInput
from app.timestamp_input import moment, moment_ahead

Command = TypeVar("Command", bound=Callable[..., Any])

LONGEST_DURATION: Final = timedelta(days=3650)
WIDE, COLUMNS = "wide_table", "table_columns"  # of the context, set by `as_table`
TIME: Final = "TIME"  # such as `7d`, or `2026-11-25T22:00:00Z`

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
LIMIT = click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
BEFORE = click.option("--before", metavar="ID", help="Go on after this row: older ones only.")
DESTINATION = click.argument("place", metavar="TEAM/NAME")
ROUTE = click.argument("route", metavar="TEAM/NAME")


def search_option(name: str, example: str, read: Callable[[str], object]) -> Callable[[Any], Any]:
    """`--query`, a search, as the argument of this name. read: raises InvalidFields for one that cannot be read."""

    def check(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
        try:
            read(value or "")
        except InvalidFields as wrong:
            raise InvalidFields([replace(fault, field="--query") for fault in wrong.faults]) from None
        return value

    told = f"That meet this search, such as {example}."
    return click.option("--query", name, metavar="SEARCH", callback=check, help=told)


def _of_connections(text: str) -> Search:
    return parse(text, CONNECTION_FIELDS)


def choice(values: Iterable[Any]) -> click.Choice[str]:
    """One of these words, in any case. Click would take an enumeration's members by their Python names."""
    return click.Choice([str(value) for value in values], case_sensitive=False)


def as_table(command: Command) -> Command:
    """`--json`, and `--wide` and `--columns`, which `output.print_list` finds in the context."""
    for option in (
        AS_JSON,
        click.option("--wide", WIDE, is_flag=True, expose_value=False, callback=_noted, help="All columns, uncut."),
        click.option("--columns", COLUMNS, metavar="A,B", expose_value=False, callback=_noted, help="These columns."),
    ):
        command = option(command)
    return command


def _noted(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta[option.name or ""] = value


def connection_filters(command: Command) -> Command:
    """`--environment`, `--integration` and `--connection-id`."""
    for option in (
        click.option("--environment", help="Of this environment."),
        click.option("--integration", help="Of this integration."),
        click.option("--connection-id", help="Of this connection of Nango's."),
    ):
        command = option(command)
    return command


def filters_of_connections(command: Command) -> Command:
    """Filters of the list of connections, and of acts on many: a search, states, owners, times and tags."""
    command = connection_filters(command)
    for option in reversed(
        (
            search_option("q", "'ada@example.com' or 'user:u_1 tag.plan:pro'", _of_connections),
            click.option("--status", type=choice(ConnectionStatus), help="In this status."),
            click.option("--unlinked", is_flag=True, help="Only those without an owner."),
            click.option("--drift", is_flag=True, help="Only those whose tags no longer carry their link."),
            click.option(
                "--duplicates",
                is_flag=True,
                help="Only those whose owner has several live connections to the integration.",
            ),
            click.option("--user", help="Of the user with this id of the application's."),
            click.option("--organization", help="Of the organization with this id of the application's."),
            click.option(
                "--kept-alive", is_flag=True, help="Only those whose grant is kept alive and whose token is not fresh."
            ),
            click.option(
                "--failing", is_flag=True, help="Only those with an error of their renewal that nothing has ended."
            ),
            moment_option(
                "--expires-before", "Whose token lapses before then: in 7d, or a time with its zone.", ahead=True
            ),
            moment_option("--expires-after", "Whose token lapses then or later.", ahead=True),
            moment_option(
                "--grant-before",
                "Whose grant lapses before then: the end user has to reconnect by then.",
                ahead=True,
            ),
            moment_option("--grant-after", "Whose grant lapses then or later.", ahead=True),
            click.option(
                "--tag", "tagged", multiple=True, metavar="K=V", help="With this tag; may be repeated, all must match."
            ),
        )
    ):
        command = option(command)
    return command


def read_duration(_context: click.Context, _option: click.Parameter, value: str) -> timedelta:
    """A callback for click: `90d` becomes a timedelta of at most ten years."""
    try:
        return min(duration(value), LONGEST_DURATION)
    except ValueError as wrong:
        raise click.BadParameter(str(wrong)) from None


def read_moment(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """A callback for click: `7d` or a time with its zone becomes a datetime."""
    if value is None:
        return None
    try:
        return moment(value, now=utc_now())
    except InvalidInput as wrong:
        raise click.BadParameter(str(wrong)) from None


def read_moment_ahead(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    """A callback for click: `7d` from now on, or a time with its zone, becomes a datetime."""
    if value is None:
        return None
    try:
        return moment_ahead(value, now=utc_now())
    except InvalidInput as wrong:
        raise click.BadParameter(str(wrong)) from None


def moment_option(name: str, help_: str, *, required: bool = False, ahead: bool = False) -> Callable[[Any], Any]:
    """An option that says since or until when. ahead: a span counts from now on."""
    callback = read_moment_ahead if ahead else read_moment
    return click.option(name, metavar=TIME, callback=callback, required=required, help=help_)


def read_pairs(arguments: tuple[str, ...]) -> dict[str, str]:
    """`key=value` each. Raises InvalidInput, also for a key that is there twice."""
    found: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise InvalidInput(f"{argument!r}: expected key=value")
        if name in found:
            raise InvalidInput(f"{name!r} is given twice")
        found[name] = value
    return found
