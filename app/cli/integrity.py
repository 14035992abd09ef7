"""`waylink check --integrity`: do all rows exist that other rows name?"""

from contextlib import closing

import click

from app.cli.opening import open_database
from app.cli.output import print_rows
from app.services.maintenance import integrity

COLUMNS = ("reference", "target", "rows", "broken", "ids")
REMEDY = 'what to do: docs/operations.md, "Broken references"; it has each of these references'


def check_references(*, as_json: bool) -> bool:
    """Print a row for each reference. False if one is broken."""
    with closing(open_database()) as database:
        found = [*integrity.check(database)]
    rows = [{name: getattr(report, name) for name in COLUMNS} for report in found]
    print_rows(rows, COLUMNS, as_json=as_json)
    whole = not any(report.broken for report in found)
    if not whole:
        click.echo(REMEDY, err=True)
    return whole
