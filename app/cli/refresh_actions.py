"""`waylink refreshes run|pause|resume|paused|sweep`."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

import click

from app.cli import bulk_actions
from app.cli.bulk_actions import require_consent
from app.cli.connection_operations import operations_on
from app.cli.opening import cli_actor, open_current, open_database
from app.cli.options import AS_JSON, as_table, read_duration
from app.cli.output import print_list, print_one, print_rows
from app.clock import utc_now
from app.config.loading import load_environments
from app.db.engine import Database
from app.db.read import paused_integrations, refresh_listing
from app.domain.refreshing.lives import shown_span
from app.errors import Conflict, NotFound
from app.ids import REFRESH, parse
from app.qualified_names import split_integration
from app.runtime.wiring import open_clients, policy_of
from app.services.connections import credentials
from app.services.refreshing import pausing, sweeps
from app.services.refreshing.sweeps import SweepPreview
from app.telemetry import configure_logs
from app.wording import counted

PAUSED: Final = (
    *("environment", "integration", "cause", "age:paused_at", "waiting", "next_probe_at"),
    *("problem", "probes", "actor"),
)
INTEGRATIONS = click.argument("names", metavar="ENV/INTEGRATION...", nargs=-1, required=True)


@click.command("run")
@click.argument("named", metavar="ID")
@click.option("--integration", help="Of this integration, where a connection's id of Nango is given.")
@click.option("--environment", help="Of this environment, where a connection's id of Nango is given.")
@click.option("--force", is_flag=True, help="Renew whatever the expiry: the provider issues another refresh token.")
@AS_JSON
def run_refresh(*, named: str, integration: str | None, environment: str | None, force: bool, as_json: bool) -> None:
    """Carry out the renewal of a connection now.

    It is named by its own id or by that of its plan. Nango is asked from here, before all background work. Without
    --force a token is renewed where it is due only, and the plan stays where nothing was.
    """
    target = {"connection": _connection_of(named), "integration": integration, "environment": environment}
    with operations_on(target) as (operations, ref, actor):
        done = credentials.refresh(operations, ref, actor=actor, forced=force)
    expires_at = done.expires_at.isoformat() if done.expires_at else None
    print_one({"outcome": done.outcome, "expires_at": expires_at}, as_json=as_json)


def _connection_of(named: str) -> str:
    """The connection of a plan, or what is no id of a refresh as it is. Raises NotFound, Conflict where it is over."""
    if not named.startswith(f"{REFRESH}_"):
        return named
    with closing(open_database()) as database, database.read() as session:
        found = refresh_listing.refresh(session, parse(REFRESH, named), now=utc_now())
    if found["finished_at"] is not None:
        raise Conflict(f"{named} is over: {found['outcome']}; name its connection, {found['connection']}")
    return str(found["connection"])


@click.command("paused")
@click.option("--environment", help="Of this environment.")
@as_table
def list_paused(*, environment: str | None, as_json: bool) -> None:
    """List the integrations whose renewals are paused.

    Either by an operator, or for an outage of their provider, and then until a probe is answered.
    """
    with closing(open_database()) as database, database.read() as session:
        rows = [one.shown() for one in paused_integrations.listed(session, environment=environment)]
    print_list(rows, PAUSED, as_json=as_json)


@click.command("pause")
@INTEGRATIONS
@click.option("--reason", help="For those who find it paused.")
@AS_JSON
def pause_refreshes(*, names: Sequence[str], reason: str | None, as_json: bool) -> None:
    """Pause the planned renewals of integrations.

    They are resumed by hand, and tokens may lapse meanwhile. Renewals and reads by hand go through.
    """

    def pause(database: Database, environment: str, integration: str) -> dict[str, Any]:
        pausing.pause(database, environment, integration, actor=cli_actor(), reason=reason, now=utc_now())
        return {"result": "paused"}

    _each(names, pause, as_json=as_json)


@click.command("resume")
@INTEGRATIONS
@AS_JSON
def resume_refreshes(*, names: Sequence[str], as_json: bool) -> None:
    """Resume the renewals of paused integrations.

    Plans that were held become due within minutes.
    """

    def resume(database: Database, environment: str, integration: str) -> dict[str, Any]:
        done = pausing.resume(database, environment, integration, actor=cli_actor(), now=utc_now())
        return {"result": "resumed", "released": done.released, "over_seconds": round(done.over_seconds)}

    _each(names, resume, as_json=as_json)


def _each(names: Sequence[str], act: Callable[[Database, str, str], dict[str, Any]], *, as_json: bool) -> None:
    """Act on each integration, and exit with 1 if one was refused."""
    wanted = [split_integration(name) for name in dict.fromkeys(names)]
    rows, refused = [], False
    with closing(open_database()) as database:
        configure_logs(style="auto", level="error")  # the answer says what was done
        for environment, integration in wanted:
            row: dict[str, Any] = {"environment": environment, "integration": integration}
            try:
                row |= act(database, environment, integration) | {"why": None}
            except (Conflict, NotFound) as why:
                row |= {"result": "left alone", "why": str(why)}
                refused = True
            rows.append(row)
    print_rows(rows, ("environment", "integration", "result", "why"), as_json=as_json)
    sys.exit(1 if refused else 0)


@click.command("sweep")
@click.argument("integration")
@click.option("--within", metavar="SPAN", required=True, callback=read_duration, help="Such as 2h: from 1m to 30d.")
@click.option("--environment", default="default", show_default=True, help="Of this environment.")
@click.option("--dry-run", is_flag=True, help="Say how many and how fast, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def sweep_integration(
    *, integration: str, within: timedelta, environment: str, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Renew all connections of an integration within a span.

    It is for emergencies, such as a provider that is going to revoke tokens. Workers renew them by force, spread evenly
    over the span, within the request budget. A second sweep within the span plans only what is not planned yet.
    """
    settings = load_environments([environment])
    with closing(open_current(settings)) as database, open_clients(settings) as clients:
        known = settings.environments.get(environment)
        limit = clients.limit_of(known.account if known else environment)
        with database.read() as session:
            found = sweeps.preview(
                session,
                policy_of(settings),
                environment,
                integration,
                within=within,
                limit_per_minute=limit,
                now=utc_now(),
            )
        _tell(found)
        if dry_run:
            print_one({"dry_run": True, **found.shown()}, as_json=as_json)
            return
        if found.ids:
            require_consent(f"Renew {counted(len(found.ids), 'connection')} by force?", yes=yes)
        steps = sweeps.sweep(database, found, actor=cli_actor(), clock=utc_now)
        done, stopped = bulk_actions.follow(steps, len(found.ids), None)
    left = len(found.ids) - done
    print_one({"planned": done, "left_alone": left, "more": found.more, "stopped": stopped}, as_json=as_json)
    sys.exit(1 if stopped else 0)


def _tell(found: SweepPreview) -> None:
    """Print on standard error what the sweep would do."""
    load, left = found.load, found.left_alone
    more = " (and more: sweep again)" if found.more else ""
    click.echo(f"{counted(len(found.ids), 'connection')}{more} within {shown_span(load.within)}", err=True)
    click.echo(f"  {load.calls_per_minute:.1f} calls a minute; refreshes may make {load.budget_per_minute}", err=True)
    if load.is_uneven:
        click.echo(f"  up to {load.busiest} in a minute: what was planned for sooner comes sooner", err=True)
    if not load.fits:
        click.echo(f"  the budget does not allow that: it takes {shown_span(load.takes)}", err=True)
    for count, why in (
        (left.swept, "planned by a sweep already"),
        (left.not_refreshable, "left out: nothing renews them"),
        (left.needs_reconnect, "left out: their end user has to reconnect"),
    ):
        if count:
            click.echo(f"  {count} {why}", err=True)
