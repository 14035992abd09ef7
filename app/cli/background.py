"""`waylink worker|beat`: one process each, for machines with a process manager of their own."""

import os
import sys

import click


@click.command()
@click.argument("kind", type=click.Choice(["events", "io"], case_sensitive=False))
def worker(kind: str) -> None:
    """Run background work: `events` (the database) or `io` (deliveries, refreshes, upkeep). Run several for more."""
    _become(kind)


@click.command()
def beat() -> None:
    """Send the ticks for sweep, refreshes and pruning. Run exactly one."""
    _become("beat")


def _become(kind: str) -> None:
    """Replace this process. Nothing in app imports workers; and a process manager's signals reach the right one."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "workers", kind])  # noqa: S606
