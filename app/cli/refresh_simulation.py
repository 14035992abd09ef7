"""`waylink refreshes simulate`: what other refresh policies would come to, for the present connections."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
from pydantic import ValidationError

from app.cli.opening import open_current
from app.cli.options import AS_JSON
from app.cli.output import print_json, print_rows
from app.cli.refresh_forecasts import ENVIRONMENT, known_environment
from app.clock import utc_now
from app.config.loading import load_environments, load_file
from app.config.refresh_tables import RefreshTables, policies_of, tables_of
from app.db import refresh_forecasts
from app.db.engine import Database
from app.runtime.wiring import policy_of
from app.services.refreshing.simulations import shown, simulate
from app.wording import counted

COLUMNS: Final = ("integration", "connections", "calls a day", "forced", "busiest minute", "lapse")


@click.command("simulate")
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The waylink.toml to try. Default: the one that is configured, as it is now.",
)
@ENVIRONMENT
@AS_JSON
def simulate_command(*, path: Path | None, environment: str | None, as_json: bool) -> None:
    """Compare a waylink.toml's refresh policies with those in force, for the present connections; change nothing."""
    settings = load_environments({environment} if environment else None)
    known = known_environment(settings, environment)
    tried = tables_of(load_file(path) if path else settings.file)
    with closing(open_current(settings)) as database:
        in_force = tables_in_force(database)
        found = simulate(
            database,
            policy_of(settings),
            policies_of(in_force or RefreshTables()),
            policies_of(tried),
            now=utc_now(),
            environment=known,
        )
    reports = [shown(one) for one in found]
    if as_json:
        print_json({"in_force_known": in_force is not None, "environments": reports})
        return
    if in_force is None:
        click.echo("no worker has noted its policies yet: compared with the defaults", err=True)
    for report in reports:
        _print(report)


def tables_in_force(database: Database) -> RefreshTables | None:
    """The refresh policies that a worker noted with its last forecast; None where none did."""
    with database.read() as session:
        noted = refresh_forecasts.tables_in_force(session)
    try:
        return None if noted is None else RefreshTables.model_validate(noted)
    except ValidationError:
        return None  # noted by another release


def _print(report: Mapping[str, Any]) -> None:
    part = f", scaled up from {report['carried']:,} of them" if report["weight"] > 1 else ""
    click.echo(f"{report['environment']}: {counted(report['connections'], 'connection')}{part}")
    whole = {"integration": "in all", "connections": report["connections"], **report["total"]}
    print_rows([_row(row) for row in [*report["integrations"], whole]], COLUMNS, as_json=False)


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    before, after = row["before"], row["after"]
    return {
        "integration": row["integration"],
        "connections": f"{row['connections']:,}",
        "calls a day": _change(before["calls_per_day"], after["calls_per_day"]),
        "forced": _change(before["forced_per_day"], after["forced_per_day"]),
        "busiest minute": _change(before["busiest_minute"], after["busiest_minute"]),
        "lapse": _change(before["lapses"], after["lapses"]),
    }


def _change(before: float, after: float) -> str:
    """Such as `12 → 30`, or one number where nothing changes."""
    told = [
        f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}" for number in (before, after)
    ]
    return told[0] if before == after else f"{told[0]} → {told[1]}"
