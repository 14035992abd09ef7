"""Output of commands: tables for people, JSON for programs. Text from outside cannot control the terminal."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.telemetry import CONTROL, escape_control

_LINE_BREAKS: Final = str.maketrans({"\n": "\\n", "\t": "\\t"})


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A listing: an array of objects with all members, or a table of the named columns."""
    if as_json:
        click.echo(_json(list(rows)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(column)).translate(_LINE_BREAKS)) for column in columns))
    _console().print(table if rows else "nothing found")


def print_page(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, limit: int, as_json: bool, cursor: str | None = "id"
) -> None:
    """A listing of `limit` rows, asked for with one more: on standard error it says whether there are more.

    cursor: the member of a row that `--before` takes; None where the command has no such option.
    """
    print_rows(rows[:limit], columns, as_json=as_json)
    if len(rows) > limit:
        on = f", or --before {rows[limit - 1][cursor]} goes on" if cursor else ""
        click.echo(f"there are more: --limit shows up to 10000{on}", err=True)


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
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


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
