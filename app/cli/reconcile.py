"""`waylink reconcile`: compare Nango's list with ours now, and read the reports of earlier runs."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

import click

from app.cli.hinting import open_hints
from app.cli.opening import cli_actor, open_current
from app.cli.options import AS_JSON, as_table
from app.cli.output import print_one, print_page, print_rows
from app.clock import utc_now
from app.config.loading import load_database, load_environments
from app.config.nango import NangoSettings
from app.db import reconciliations as rows
from app.db.engine import Database
from app.db.reconciliations import Run, shown
from app.domain.reconciling import RunOutcome, Stage
from app.errors import ConfigurationError, Conflict, NotFound, Problem
from app.ids import RECONCILIATION, parse, show
from app.runtime.wiring import open_clients, reconciler_of
from app.services.reconciliation.reconciler import Reconciler
from app.services.reconciliation.run_requests import request_run
from app.telemetry import configure_logs
from app.wording import counted

LOOK_EVERY: Final = 0.5  # seconds between two reads of a run that is waited for
UNCLAIMED: Final = timedelta(
    seconds=8
)  # seconds; Beat ticks every five, so no worker runs and this command works on the run
COLUMNS: Final = (
    *("id", "environment", "trigger", "dry_run", "stage", "outcome", "seen", "found", "counted"),
    *("missed_by_webhook", "healed", "started_at", "problem"),
)


@click.group(invoke_without_command=True)
@click.option("--environment", "environments", multiple=True, help="This one only; may be repeated. Else all.")
@click.option("--dry-run", is_flag=True, help="Say what differs at a first look, and change nothing. Waits.")
@click.option(
    "--accept-deletions",
    is_flag=True,
    help="Believe that connections are gone, even when most of them are absent from Nango's list.",
)
@click.option("--wait", is_flag=True, help="Follow the runs to their end, and do the work where no worker does.")
@AS_JSON
@click.pass_context
def reconcile(
    context: click.Context,
    /,
    *,
    environments: Sequence[str],
    dry_run: bool,
    accept_deletions: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Compare Nango's list of connections with ours now. Exit 1 if a run fails."""
    if context.invoked_subcommand:
        return
    settings = load_environments(environments or None)
    configure_logs(style="auto", level="error")
    chosen = _chosen(settings, environments)
    with _reconciler(settings) as reconciler:
        database = reconciler.database
        runs = [_ask(database, settings, name, dry_run=dry_run, accept_deletions=accept_deletions) for name in chosen]
        with open_hints(settings) as hints:  # workers need not wait for Beat's next tick
            hints.of_reconciliation()
        if wait or dry_run:
            runs = [_follow(reconciler, run) for run in runs]
    if as_json or len(runs) > 1 or not (wait or dry_run):
        print_rows([shown(run) for run in runs], COLUMNS, as_json=as_json)
    else:
        _print(runs[0], as_json=False)
    sys.exit(1 if any(run.outcome == RunOutcome.FAILED for run in runs) else 0)


@reconcile.command("list")
@click.option("--environment", help="Of this environment.")
@click.option("--before", metavar="ID", help="Go on after this row: older ones only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
@as_table
def list_runs(*, environment: str | None, before: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    cursor = parse(RECONCILIATION, before) if before else None
    with closing(open_current(load_database())) as database, database.read() as session:
        runs = rows.newest(session, environment=environment, before=cursor, limit=limit + 1)
    print_page([shown(run) for run in runs], COLUMNS, limit=limit, as_json=as_json)


@reconcile.command("show")
@click.argument("run_id", metavar="ID")
@AS_JSON
def show_run(run_id: str, *, as_json: bool) -> None:
    """All about one run: what differed, with samples, and what became of it."""
    with closing(open_current(load_database())) as database:
        _print(_get(database, parse(RECONCILIATION, run_id)), as_json=as_json)


def _print(run: Run, *, as_json: bool) -> None:
    """Print the whole report; in the table a sample is a line."""
    report = shown(run)
    if not as_json:
        lines = {
            kind: [f"{one['integration']} {one['connection_id']}: {one['why']}" for one in some]
            for kind, some in report["samples"].items()
        }
        report = {**report, "samples": lines}
    print_one(report, as_json=as_json)


def _chosen(settings: NangoSettings, named: Sequence[str]) -> list[str]:
    """The environments to compare. Raises ConfigurationError where there is none."""
    able = [name for name, environment in settings.environments.items() if environment.has_api]
    if not able:
        missing = "no environment has an API key, so there is no list to compare with"
        raise ConfigurationError([Problem("WAYLINK_NANGO_API_KEY", missing)])
    return list(dict.fromkeys(named)) or able


def _ask(
    database: Database, settings: NangoSettings, environment: str, *, dry_run: bool, accept_deletions: bool
) -> Run:
    """Open a run, or find the same one in progress."""
    try:
        with database.write() as session:
            return request_run(
                session,
                settings.environments,
                environment,
                dry_run=dry_run,
                accept_deletions=accept_deletions,
                actor=cli_actor(),
                now=utc_now(),
            )
    except Conflict as conflict:
        with database.read() as session:
            found = rows.running(session, environment)
        if found is None or (found.dry_run, found.accept_deletions) != (dry_run, accept_deletions):
            raise
        click.echo(f"{conflict}: following that one", err=True)
        return found


def _follow(reconciler: Reconciler, run: Run) -> Run:
    """Wait for the end of a run and print its progress."""
    told = ""
    while run.finished_at is None:
        if (line := _progress(run)) != told:
            click.echo(line, err=True)
            told = line
        if run.next_at + UNCLAIMED < utc_now():
            reconciler.work(run_id=run.id)
        else:
            time.sleep(LOOK_EVERY)
        run = _get(reconciler.database, run.id)
    return run


def _progress(run: Run) -> str:
    differ, twice = sum(run.found.values()), sum(run.counted.values())
    words = {
        Stage.LISTING: f"{counted(run.seen, 'connection')} seen, {differ} differ",
        Stage.CHECKING: f"second look at what differs, {twice} of {differ} counted",
        Stage.SETTLING: f"{run.healed + run.unhealed} of {counted(twice, 'event')} processed",
    }
    waits = f"; waits: {run.problem}" if run.failures and run.problem else ""
    return f"{run.environment}: {words.get(Stage(run.stage), 'queued')}{waits}"


def _get(database: Database, run_id: UUID) -> Run:
    with database.read() as session:
        run = rows.get(session, run_id)
    if run is None:
        raise NotFound("reconciliation", show(RECONCILIATION, run_id))
    return run


@contextmanager
def _reconciler(settings: NangoSettings) -> Iterator[Reconciler]:
    with closing(open_current(settings)) as database, open_clients(settings) as clients:
        yield reconciler_of(settings, database, clients)
