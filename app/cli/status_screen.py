"""The lines of `waylink status`: what needs a person first, each check with its cause and its repair."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import click

from app.domain.status import Check, Level, count, headline
from app.telemetry import escape_control

NARROWEST: Final = 40  # cells
_MARKS: Final = {Level.RED: "RED", Level.HINT: "hint", Level.OK: "ok"}
_COLORS: Final = {Level.RED: "red", Level.HINT: "yellow", Level.OK: "green"}


def screen(
    checks: Sequence[Check], *, width: int, height: int, everything: bool = False, styled: bool = False
) -> list[str]:
    """The report as lines of at most `width` cells where words allow it.

    All red checks are in it. Hints are as long as the screen has room for them. everything: all checks.
    """
    width = max(width, NARROWEST)
    is_well = not count(checks, Level.RED)
    lines = [click.style(headline(checks), fg="green" if is_well else "red", bold=True) if styled else headline(checks)]
    hidden = 0
    for check in checks:
        if check.level is Level.OK and not everything:
            continue
        more = list(_lines(check, width, styled=styled))
        # Two lines are for the summary and the prompt.
        if check.level is Level.HINT and not everything and len(lines) + len(more) + 2 > height:
            hidden += 1
            continue
        lines += more
    return [*lines, _summary(checks, hidden=hidden, everything=everything)]


def _lines(check: Check, width: int, *, styled: bool) -> Iterator[str]:
    mark = f"{_MARKS[check.level]:<5}"
    head = escape_control(f"{check.id}: {check.value}").replace("\n", " ")
    yield (click.style(mark, fg=_COLORS[check.level], bold=True) if styled else mark) + head
    if check.cause:
        text = escape_control(" ".join(check.cause.split()))
        indent = " " * 5
        yield from textwrap.wrap(
            text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        )
    if check.repair:
        yield f"     -> {escape_control(check.repair)}"


def _summary(checks: Sequence[Check], *, hidden: int, everything: bool) -> str:
    counted = f"{count(checks, Level.RED)} red, {count(checks, Level.HINT)} hints, {count(checks, Level.OK)} well"
    if everything:
        return counted
    more = f" ({hidden} hints not shown)" if hidden else ""
    return f"{counted}{more}; `waylink status --all` shows all"
