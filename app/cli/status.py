"""`waylink status`: what needs an operator, from database and brokers alone, whether web runs or not."""

import shutil
import sys
import time
from contextlib import closing, nullcontext
from typing import Any, Final

import click

from app.cli.interrupts import interrupts
from app.cli.output import print_json, print_json_line
from app.cli.status_screen import screen
from app.clock import utc_now
from app.config.loading import usable
from app.config.settings_groups import DatabaseSettings
from app.db.engine import Database, connect
from app.domain.status import Check, Level, count, in_order
from app.runtime.status_of import diagnosed
from app.services.status.report import LOOK_SECONDS, report
from app.services.status.shapes import shown

AT_LEAST: Final = 5.0  # of a look's own time, between two looks
CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"  # of a terminal: to the first line, without what was there


@click.command()
@click.option("--all", "everything", is_flag=True, help="Show the checks that are well, too.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(1, 3600),
    default=5,
    show_default=True,
    help="Seconds between two looks of --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all checks; with --watch an array on each line.")
def status(*, everything: bool, watch: bool, every: float, as_json: bool) -> None:
    """Show what needs a person, with its cause and the command that repairs it. Exit 1 if anything does."""
    url = settings.database if (settings := usable(DatabaseSettings)) else None
    with closing(connect(url, statement_seconds=LOOK_SECONDS)) if url else nullcontext() as database:
        found = _look(database, warn=True)
        if not watch:
            _show(found, everything=everything, as_json=as_json)
        else:
            found = _watch(found, database, every=every, everything=everything, as_json=as_json)
    sys.exit(1 if count(found, Level.RED) else 0)


def _look(database: Database | None, *, warn: bool) -> list[Check]:
    return in_order(report(database, diagnosed(warn=warn), now=utc_now()))


def _watch(
    found: list[Check], database: Database | None, *, every: float, everything: bool, as_json: bool
) -> list[Check]:
    """Look until Ctrl-C. Returns the checks of the last look."""
    clears, took = sys.stdout.isatty() and not as_json, 0.0
    try:
        with interrupts() as ctrl_c:
            while True:
                if as_json:
                    print_json_line([shown(check) for check in found])
                else:
                    click.echo(f"{CLEAR if clears else ''}{utc_now().isoformat(timespec='seconds')}")
                    _show(found, everything=everything, as_json=False)
                # What answers slowly is not asked all the time.
                ctrl_c.wait(max(every, AT_LEAST * took))
                began = time.monotonic()
                found = _look(database, warn=False)
                took = time.monotonic() - began
                ctrl_c.check()
    except KeyboardInterrupt:
        click.echo(err=True)  # the terminal shows ^C
    return found


def _show(found: list[Check], *, everything: bool, as_json: bool) -> None:
    if as_json:
        print_json(_rows(found))
        return
    size = shutil.get_terminal_size()
    for line in screen(found, width=size.columns, height=size.lines, everything=everything, styled=sys.stdout.isatty()):
        click.echo(line)


def _rows(found: list[Check]) -> list[dict[str, Any]]:
    return [shown(check) for check in found]
