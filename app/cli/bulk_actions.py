"""Shared by commands that act on many rows: ask first, show the progress, and stop at Ctrl-C."""

import sys
from collections.abc import Callable, Generator
from uuid import UUID

import click

from app.cli.interrupts import interrupts


def require_consent(question: str, *, yes: bool) -> None:
    """Ask, and exit with 1 unless the answer is yes; an input that has ended is no."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        agreed = False
    if not agreed:
        click.echo("nothing was changed; --yes agrees beforehand", err=True)
        sys.exit(1)


def follow(
    steps: Generator[list[UUID], None, None], total: int, announce: Callable[[list[UUID]], None] | None
) -> tuple[int, bool]:
    """Carry out an action. Returns the rows that it changed, and whether it was stopped between two chunks."""
    done = 0
    shows_progress = sys.stderr.isatty()
    try:
        with interrupts() as ctrl_c:
            for changed in steps:
                done += len(changed)
                if announce is not None:
                    announce(changed)
                if shows_progress:
                    click.echo(f"\r{done} of {total}", err=True, nl=False)
                ctrl_c.check()
    except KeyboardInterrupt:
        return done, True
    finally:
        steps.close()
        if shows_progress:
            click.echo(err=True)
    return done, False
