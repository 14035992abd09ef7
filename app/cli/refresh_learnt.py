"""`waylink refreshes learnt`: the ages at which grants died, and the policies that they propose."""

from contextlib import closing
from typing import Any, Final

import click

from app.cli.opening import open_database
from app.cli.options import AS_JSON
from app.cli.output import print_json, print_rows
from app.cli.refresh_forecasts import ENVIRONMENT
from app.services.refreshing.learnt_lives import learnt_lives, proposal, shown

COLUMNS: Final = ("environment", "integration", "died", "at age", "since", "live on", "proposal")


@click.command("learnt")
@ENVIRONMENT
@AS_JSON
def learnt_command(*, environment: str | None, as_json: bool) -> None:
    """Ages at which grants of an integration died, as tables for waylink.toml, which nothing applies by itself."""
    with closing(open_database()) as database:
        found = learnt_lives(database, environment=environment)
        text = proposal(database, found)
    rows = [shown(one) for one in found]
    if as_json:
        print_json({"integrations": rows, "policy": text})
        return
    if not rows:
        click.echo("no grant has died, as far as refreshes have found")
        return
    print_rows([_row(row) for row in rows], COLUMNS, as_json=False)
    if text:
        click.echo(f"\nfor waylink.toml, if you agree:\n\n{text}")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    young, old = row["youngest"], row["oldest"]
    return {
        "environment": row["environment"],
        "integration": row["integration"],
        "died": row["deaths"] if row["at_common_age"] is None else f"{row['at_common_age']} of {row['deaths']}",
        "at age": young if young == old else f"{young}-{old}",
        "since": row["since"],
        "live on": row["outlived"],
        "proposal": row["proposal"] or f"none: {row['why_not']}",
    }
