"""Output of commands: tables for people, JSON for programs. Text from outside cannot control the terminal."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.options import COLUMNS, WIDE
from app.cli.tables import AGE, Layout, age, layout, members, short_time
from app.clock import utc_now
from app.telemetry import CONTROL, escape_control

_LINE_BREAKS: Final = str.maketrans({"\n": "\\n", "\t": "\\t"})


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A report: an array of objects with all members, or a table of the named columns with long texts folded."""
    if as_json:
        click.echo(_json(list(rows)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column)).translate(_LINE_BREAKS)) for column in columns))
    _console().print(table if rows else "nothing found")


def print_list(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A listing of a command with `options.as_table`: an array of objects with all members, or a line for each row.

    columns: members of the rows in the order of their importance; `age:MEMBER` is the time since then.
    """
    if as_json:
        click.echo(_json(list(rows)))
    elif rows:
        Lines.of(rows, columns).show(rows)
    else:
        click.echo("nothing found")


def print_page(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, limit: int, as_json: bool, cursor: str | None = "id"
) -> None:
    """A listing of `limit` rows, asked for with one more: on standard error it says whether there are more.

    cursor: the member of a row that `--before` takes; None where the command has no such option.
    """
    print_list(rows[:limit], columns, as_json=as_json)
    if len(rows) > limit:
        on = f", or --before {rows[limit - 1][cursor]} goes on" if cursor else ""
        click.echo(f"there are more: --limit shows up to 10000{on}", err=True)


@dataclass(frozen=True, slots=True)
class Lines:
    """A table whose rows are a line each; further rows can be shown later."""

    columns: Sequence[str]
    layout: Layout

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Self:
        """The table of these rows, as wide as the terminal. Raises UsageError for unknown names in `--columns`."""
        wide, named = _asked(WIDE), _chosen(rows)
        if named is not None:
            columns = named
        elif wide:
            shown = [name.removeprefix(AGE) for name in columns]
            columns = [*shown, *(name for name in members(rows) if name not in shown)]
        cells = [_cells(row, columns) for row in rows]
        return cls(columns, layout([*map(_heading, columns)], cells, width=None if wide else _width()))

    def show(self, rows: Sequence[Mapping[str, Any]], *, with_heading: bool = True) -> None:
        if with_heading:
            heading = self.layout.line([*map(_heading, self.columns)])
            click.echo(click.style(heading, bold=True) if sys.stdout.isatty() else heading)
        for row in rows:
            click.echo(self.layout.line(_cells(row, self.columns)))
        if with_heading and self.layout.hidden:
            click.echo(f"not shown: {', '.join(self.layout.hidden)}; --wide shows all, --columns some", err=True)


def print_json_line(row: Mapping[str, Any] | Sequence[Any]) -> None:
    """One object, or an array, as a line of JSON, written at once."""
    click.echo(_escaped(json.dumps(row, ensure_ascii=False)))


def print_json(value: Any) -> None:
    """A report as one JSON value."""
    click.echo(_json(value))


def print_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """One object: as JSON, or a line per member."""
    if as_json:
        click.echo(_json(row))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in row.items():
        table.add_row(name.replace("_", " "), Text(_cell(value, indent=2)))
    _console().print(table)


def _json(value: Any) -> str:
    """Encode as JSON, and escape also the C1 and bidirectional control characters, which JSON leaves as they are."""
    return _escaped(json.dumps(value, ensure_ascii=False, indent=2))


def _escaped(text: str) -> str:
    return CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def _asked(option: str) -> Any:
    context = click.get_current_context(silent=True)
    return context.meta.get(option) if context is not None else None


def _chosen(rows: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The columns that `--columns` names."""
    named = _asked(COLUMNS)
    if named is None:
        return None
    there = members(rows)
    columns = [name.strip() for name in named.split(",") if name.strip()]
    unknown = [name for name in columns if name not in there]
    if unknown or not columns:
        what = f"there is no {unknown[0]!r}" if unknown else "names none"
        raise click.UsageError(f"--columns: {what}; there are {', '.join(there)}")
    return columns


def _width() -> int | None:
    """Cells of a line; without limit into a pipe, which has all columns."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _heading(column: str) -> str:
    return "age" if column.startswith(AGE) else column.replace("_", " ")


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    now = utc_now()
    return [
        age(row.get(name.removeprefix(AGE)), now=now)
        if name.startswith(AGE)
        else short_time(_cell(row.get(name)).translate(_LINE_BREAKS))
        for name in columns
    ]


def _console() -> Console:
    """A console as wide as the terminal; without limit into a pipe, so that a row stays a line."""
    return Console(width=None if sys.stdout.isatty() else 400, highlight=False)


def _cell(value: Any, *, indent: int | None = None) -> str:
    if value is None:
        return "—"
    if isinstance(value, dict | list):
        if not value:
            return "—"
        if (
            isinstance(value, dict)
            and indent is None
            and not any(isinstance(member, dict | list) for member in value.values())
        ):
            return escape_control(" ".join(f"{key}={item}" for key, item in value.items()))
        return escape_control(json.dumps(value, ensure_ascii=False, indent=indent))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape_control(str(value))
