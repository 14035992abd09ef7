"""`--follow`: a listing that goes on with new and changed rows, until Ctrl-C."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final

import click
from sqlalchemy.exc import DBAPIError

from app.cli.interrupts import Interrupts, interrupts
from app.cli.output import Lines, print_json_line
from app.cli.tables import Layout
from app.outage_causes import of_database

LOOK_EVERY: Final = 1.0  # seconds
AT_ONCE: Final = 1_000  # rows of one look
REMEMBERED: Final = 10 * AT_ONCE
LAID_OUT: Final = 200  # rows that the width of columns depends on

FOLLOW: Final = click.option(
    "--follow", "-f", is_flag=True, help="Go on with new and changed rows, oldest first, until Ctrl-C."
)

Row = Mapping[str, Any]
Look = Callable[[int], Sequence[Row]]  # the newest rows, newest first, at most so many


def follow(
    look: Look, columns: Sequence[str], *, state: Sequence[str], limit: int, as_json: bool, before: object = None
) -> None:
    """Show the newest `limit` rows, and each row again when one of the members `state` is another.

    As JSON: an object per line. While the database is away it says so and waits. before: the value of `--before`, which
    leads the other way. Raises UsageError for it.
    """
    if before is not None:
        raise click.UsageError("--follow shows what comes, --before what was: give one of them")
    try:
        with interrupts() as ctrl_c:
            _follow(look, columns, ctrl_c, state=state, limit=limit, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(err=True)  # the terminal shows ^C


def _follow(
    look: Look, columns: Sequence[str], ctrl_c: Interrupts, *, state: Sequence[str], limit: int, as_json: bool
) -> None:
    seen: dict[tuple[object, ...], None] = {}
    shown: deque[Row] = deque(maxlen=LAID_OUT)
    layout: Layout | None = None
    for turn in count():
        new = [row for row in reversed(_looked(look, AT_ONCE, ctrl_c)) if _key(row, state) not in seen]
        seen |= dict.fromkeys(_key(row, state) for row in new)
        for forgotten in list(seen)[: max(0, len(seen) - REMEMBERED)]:
            del seen[forgotten]
        if not turn:
            new = new[-limit:]
        elif len(new) == AT_ONCE:
            click.echo(f"more than {AT_ONCE} rows at once: older ones are not shown", err=True)
        if as_json:
            for row in new:
                print_json_line(row)
        elif new:
            shown.extend(new)
            lines = Lines.of(shown, columns)
            lines.show(new, with_heading=lines.layout != layout)
            layout = lines.layout
        ctrl_c.wait(LOOK_EVERY)


def _key(row: Row, state: Sequence[str]) -> tuple[object, ...]:
    return tuple(row[member] for member in state)


def _looked(look: Look, limit: int, ctrl_c: Interrupts) -> Sequence[Row]:
    is_told = False
    while True:
        try:
            return look(limit)
        except DBAPIError as problem:
            from app.db.errors import is_away  # noqa: PLC0415 - loads psycopg, which most listings do not need

            if not is_away(problem):
                raise
            if not is_told:
                click.echo(f"waiting for the database: {of_database(problem)}", err=True)
            is_told = True
            ctrl_c.wait(LOOK_EVERY)
