"""`waylink healthz`: for probes of containers and process managers. It loads no settings and asks no database."""

import os
import sys
from pathlib import Path

import click

from app.runtime.life_files import DATA_DIR, problem_of
from app.text_input import unwrapped


@click.command()
@click.argument("kind", type=click.Choice(["web", "events", "io", "beat"], case_sensitive=False))
def healthz(kind: str) -> None:
    """Say whether this host's processes of a kind make progress: exit 0, or 1 with the cause.

    A database or broker that is away is no cause: restarting a process does not help then.
    """
    problem = problem_of(Path(unwrapped(os.environ.get("WAYLINK_DATA_DIR", "")) or DATA_DIR), kind)
    if problem is not None:
        click.echo(problem, err=True)
        sys.exit(1)
    click.echo("ok")
