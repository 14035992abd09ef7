"""What commands that act on many rows do: ask first, show how far it is, and stop where somebody says so."""

import sys
from collections.abc import Callable, Generator
from uuid import UUID

import click


def require_consent(question: str, *, yes: bool) -> None:
    """Ends the command with 1 where that is not agreed to, as by an input that has ended."""
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
    """Carry an act out: how many rows were touched, and whether somebody stopped it between two chunks."""
    done = 0
    shows_progress = sys.stderr.isatty()
    try:
        for changed in steps:
            done += len(changed)
            if announce is not None:
                announce(changed)
            if shows_progress:
                click.echo(f"\r{done} of {total}", err=True, nl=False)
    except KeyboardInterrupt:
        return done, True
    finally:
        steps.close()
        if shows_progress:
            click.echo(err=True)
    return done, False
