"""`waylink settings`: the settings in force, without secrets."""

import click

from app.cli.options import as_table
from app.cli.output import print_list
from app.config.effective import effective
from app.config.loading import diagnose
from app.telemetry import escape_control


@click.command()
@as_table
def settings(*, as_json: bool) -> None:
    """Show the settings in force, without secrets. What cannot be used counts as unset, and is told."""
    found = diagnose()
    for problem in found.problems:
        click.echo(f"not in force: {escape_control(str(problem))}", err=True)
    rows = effective(found.settings, found.problems, unknown=found.unknown)
    shown = rows if as_json else [{**row, "set": "not in force" if row["fault"] else row["set"]} for row in rows]
    print_list(shown, ("variable", "value", "set", "default"), as_json=as_json)
