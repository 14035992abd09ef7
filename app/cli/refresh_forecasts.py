"""`waylink refreshes forecast`: refreshes to come, and the last forecast against what happened."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import click

from app.cli.opening import open_current
from app.cli.options import AS_JSON
from app.cli.output import print_json, print_rows
from app.clock import utc_now
from app.config.loading import load_environments
from app.config.nango import NangoSettings
from app.errors import NotFound
from app.runtime.wiring import budget_of, policy_of
from app.services.refreshing import forecast_reports
from app.services.refreshing.forecasts import forecasts
from app.wording import counted

ENVIRONMENT = click.option("--environment", help="Of this environment.")


@click.command("forecast")
@ENVIRONMENT
@AS_JSON
def forecast_command(*, environment: str | None, as_json: bool) -> None:
    """Refreshes by hour and day against the budget, what lapses before its turn, and how the last forecast did."""
    settings = load_environments({environment} if environment else None)
    known = known_environment(settings, environment)
    with closing(open_current(settings)) as database, closing(budget_of(settings)) as budget:
        found = forecasts(database, policy_of(settings), budget.limit_of, now=utc_now(), environment=known)
    reports = [forecast_reports.shown(one) for one in found]
    if as_json:
        print_json(reports)
        return
    if not reports:
        click.echo("no environment has an API key: nothing is refreshed")
    for report in reports:
        _print(report)


def known_environment(settings: NangoSettings, environment: str | None) -> str | None:
    """Raises NotFound where it is not configured."""
    if environment is not None and environment not in settings.environments:
        raise NotFound("environment", environment)
    return environment


def _print(report: Mapping[str, Any]) -> None:
    budget, busiest = report["budget"], report["busiest_minute"]
    click.echo(_headline(report))
    shared = f", shared by {', '.join(budget['environments'])}" if len(budget["environments"]) > 1 else ""
    click.echo(f"budget: {budget['per_minute']:g} a minute of the account's {budget['limit']}{shared}")
    click.echo(f"busiest minute: {busiest['refreshes']} at {_time(busiest['at'])}, the mean is {busiest['mean']}")
    if budget["minutes_over"]:
        late = f"; {counted(budget['too_late'], 'token')} not renewed before the expiry" if budget["too_late"] else ""
        click.echo(f"over the budget: {budget['minutes_over']:,} of the next day's minutes{late}")
    if report["overdue"]:
        click.echo(f"overdue: {report['overdue']:,}")
    click.echo("\nthe next 24 hours")
    print_rows([_against(row) for row in report["hours"]], ("from", "refreshes", "budget"), as_json=False)
    click.echo("\nthe next 30 days")
    print_rows([_against(row) for row in report["days"]], ("from", "refreshes", "budget"), as_json=False)
    click.echo("\nlapses before its turn, within 30 days")
    columns = ("integration", "clock", "why", "connections", "first")
    print_rows([row | {"first": _time(row["first_at"])} for row in report["lapses"]], columns, as_json=False)
    _print_past(report["past"])


def _headline(report: Mapping[str, Any]) -> str:
    part = f", scaled up from {report['carried']:,} of them" if report["weight"] > 1 else ""
    return f"{report['environment']}: {counted(report['connections'], 'connection')}{part}"


def _print_past(past: Mapping[str, Any] | None) -> None:
    if past is None:
        click.echo("\nno earlier forecast to compare: a worker stores one a day")
        return
    click.echo(f"\nthe forecast of {_time(past['made_at'])} against what happened")
    total = {"at": "in all", **{name: past[name] for name in ("forecast", "happened", "difference")}}
    rows: Sequence[Mapping[str, Any]] = [*past["hours"], total]
    shown = [
        {
            "from": row["at"] if row is total else _time(row["at"]),
            "forecast": f"{row['forecast']:,}",
            "happened": f"{row['happened']:,}",
            "difference": "—" if row["difference"] is None else f"{row['difference']:+.1%}",
        }
        for row in rows
    ]
    print_rows(shown, ("from", "forecast", "happened", "difference"), as_json=False)


def _against(row: Mapping[str, Any]) -> dict[str, str]:
    share = f" ({row['refreshes'] / row['budget']:.0%})" if row["budget"] else ""
    return {"from": _time(row["at"]), "refreshes": f"{row['refreshes']:,}", "budget": f"{row['budget']:,}{share}"}


def _time(text: str) -> str:
    return f"{text[:10]} {text[11:16]}Z"
