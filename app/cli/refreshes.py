"""`waylink refreshes`: list and show renewals of tokens, and what is known of providers' tokens."""

from contextlib import closing
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import click

from app.cli.connection_target import Target
from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import AS_JSON, LIMIT, as_table, choice, connection_filters, moment_option
from app.cli.output import print_one, print_page, print_rows
from app.cli.paging import rows_of
from app.clock import utc_now
from app.config.provider_catalogue import shipped_catalogue, shown_line
from app.db.read import refresh_listing, searching
from app.db.read.refresh_listing import RefreshFilters
from app.db.read.searching import Page
from app.domain.refreshing.catalogue import ProviderLine
from app.domain.states import RefreshOutcome, RefreshState
from app.errors import NotFound
from app.ids import REFRESH, parse

PLANNED: Final = (
    *("connection_id", "next_at", "state", "integration", "outcome"),
    *("reason", "deadline_at", "failures", "forced", "user", "organization", "id"),
)
PAST: Final = (
    *("connection_id", "finished_at", "outcome", "integration", "error"),
    *("failures", "requested_by", "expires_at", "forced", "user", "organization", "id"),
)
ALL: Final = (
    *("connection_id", "refresh_at", "state", "outcome", "integration"),
    *("failures", "reason", "forced", "user", "organization", "id"),
)
ACTS: Final = {
    "forecast": (
        "app.cli.refresh_forecasts:forecast_command",
        "Refreshes by hour and day against the budget, what lapses before its turn, and how the last forecast did.",
    ),
    "learnt": (
        "app.cli.refresh_learnt:learnt_command",
        "Ages at which grants of an integration died, as tables for waylink.toml, which nothing applies by itself.",
    ),
    "simulate": (
        "app.cli.refresh_simulation:simulate_command",
        "Compare a waylink.toml's refresh policies with those in force, for the present connections; change nothing.",
    ),
    "pause": ("app.cli.refresh_actions:pause_refreshes", "Pause the planned renewals of integrations."),
    "paused": ("app.cli.refresh_actions:list_paused", "List the integrations whose renewals are paused."),
    "resume": ("app.cli.refresh_actions:resume_refreshes", "Resume the renewals of paused integrations."),
    "run": ("app.cli.refresh_actions:run_refresh", "Carry out the renewal of a connection now."),
    "sweep": ("app.cli.refresh_actions:sweep_integration", "Renew all connections of an integration within a span."),
}
CATALOGUE_COLUMNS: Final = ("provider", "access_life", "refresh_life", "idle_limit", "rotates", "renews")


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@click.option("--state", type=choice(RefreshState), help="In this state; `open` has all that are planned.")
@click.option("--outcome", type=choice(RefreshOutcome), help="With this outcome, or held back by it.")
@moment_option("--due-before", "Planned, and due before then: in 2h, or a time with its zone.", ahead=True)
@moment_option("--due-after", "Planned, and due then or later.", ahead=True)
@moment_option("--deadline-before", "Planned, and the token or the grant lapses before then.", ahead=True)
@click.option("--provider", help="Of this provider, by its name at Nango.")
@click.option("--user", help="Of the user with this id of the application's.")
@click.option("--organization", help="Of the organization with this id of the application's.")
@connection_filters
@click.option("--before", "after", metavar="ID", help="Go on after this row.")
@LIMIT
@as_table
@click.pass_context
def refreshes(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
    after: str | None,
    state: str | None,
    **filters: Any,
) -> None:
    """List planned and past renewals of tokens. Of a state of plans the first due comes first, else the newest."""
    if context.invoked_subcommand:
        return
    wanted = RefreshFilters(
        now=utc_now(),
        search=searching.AT_MOST_PLANS,
        state=RefreshState(state) if state else None,
        **filters,
    )
    if wanted.is_contradictory:
        raise click.UsageError("--state finished leaves nothing with options about plans: give one of them")
    cursor = parse(REFRESH, after) if after else None
    with closing(open_database()) as database:

        def look(behind: UUID | None, count: int) -> Page:
            with database.read() as session:
                return refresh_listing.refreshes(session, replace(wanted, after=behind, limit=count))

        rows = rows_of(look, REFRESH, behind=cursor, count=limit + 1)
    columns = PLANNED if wanted.is_open else PAST if state == RefreshState.FINISHED else ALL
    print_page(rows, columns, limit=limit, as_json=as_json)


@refreshes.command("show")
@click.argument("shown", metavar="ID")
@click.option("--integration", help="Of this integration, where a connection's id of Nango is given.")
@click.option("--environment", help="Of this environment, where a connection's id of Nango is given.")
@AS_JSON
def show_refresh(*, shown: str, integration: str | None, environment: str | None, as_json: bool) -> None:
    """All about one renewal, by its `ref_…` id, and what comes next; of a connection, the planned or last one."""
    with closing(open_database()) as database:
        if shown.startswith(f"{REFRESH}_"):
            with database.read() as session:
                _print(refresh_listing.refresh(session, parse(REFRESH, shown), now=utc_now()), as_json=as_json)
            return
        ref = Target(shown, integration, environment).known(database)
        if ref is None:
            raise NotFound("connection", shown)
        with database.read() as session:
            _print(refresh_listing.latest_of(session, ref, now=utc_now()), as_json=as_json)


def _print(row: dict[str, Any], *, as_json: bool) -> None:
    """Print a refresh; in the table, what comes next is a line."""
    if not as_json:
        following = row["next"]
        when = f"{following['at']}, {following['state']}: " if following["at"] else "none: "
        row = {**row, "next": f"{when}{following['why']}"}
    print_one(row, as_json=as_json)


@refreshes.command()
@click.argument("provider", required=False)
@AS_JSON
def catalogue(*, provider: str | None, as_json: bool) -> None:
    """Show what PROVIDER documents of its tokens' lives, with the source; without PROVIDER, of all."""
    known = shipped_catalogue()
    if provider is None:
        rows = [_row(line) for line in known.lines]
        print_rows(rows, CATALOGUE_COLUMNS, as_json=as_json)
        return
    line = known.of(provider)
    if line is None:
        raise NotFound("provider in the catalogue", provider)
    row = _row(line)
    print_one(row if as_json else row | {"provider": provider, "names": ", ".join(line.names)}, as_json=as_json)


def _row(line: ProviderLine) -> dict[str, Any]:
    more = f" +{len(line.names) - 1}" if len(line.names) > 1 else ""
    return {"provider": line.names[0] + more, **shown_line(line)}
