"""`waylink bulk-runs`, and how commands that act on all rows of a filter open a run and follow it."""

import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any, Final

import click

from app.brokers.hints import Hints
from app.cli.hinting import open_hints
from app.cli.interrupts import Interrupts, interrupts
from app.cli.opening import cli_actor, open_database
from app.cli.options import AS_JSON, as_table, choice
from app.cli.output import print_one, print_page
from app.clock import utc_now
from app.config.loading import load_brokers
from app.db import bulk_runs as rows
from app.db.bulk_runs import Run
from app.db.engine import Database, connect
from app.db.schema_version import require_current
from app.domain.bulk_runs import AT_WORK, BulkAct, BulkState, Change
from app.ids import BULK_RUN, parse, show
from app.services.bulk_runs.row_acts import RowAct
from app.services.bulk_runs.run_requests import RunWanted, change_run, get_run, open_run
from app.services.bulk_runs.runner import BulkRunner
from app.services.bulk_runs.showing import shown
from app.services.routing.cache import RouteCache

AT_ONCE: Final = 1000  # rows of a run that the command itself carries out, without a worker
LOOK_EVERY: Final = 0.2  # seconds between two reads of a run that is followed
UNCLAIMED: Final = timedelta(seconds=8)  # Beat ticks every five, so no worker runs, and the command does the work
COLUMNS: Final = (
    *("id", "age:created_at", "act", "state", "counted", "done", "failed", "left_alone"),
    *("actor", "reason", "problem"),
)
ID: Final = click.argument("run_id", metavar="ID")


@click.group("bulk-runs", invoke_without_command=True)
@click.option("--act", type=choice(BulkAct), help="Of this act.")
@click.option("--state", type=choice(BulkState), help="In this state.")
@click.option("--before", metavar="ID", help="Go on after this row: older ones only.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
@as_table
@click.pass_context
def bulk_runs(
    context: click.Context,
    /,
    *,
    act: BulkAct | None,
    state: BulkState | None,
    before: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List acts on many rows that workers carry out, newest first; pause, resume and cancel them."""
    if context.invoked_subcommand:
        return
    cursor = parse(BULK_RUN, before) if before else None
    with closing(open_database()) as database, database.read() as session:
        found = rows.newest(session, act=act, state=state, before=cursor, limit=limit + 1)
    print_page([shown(run) for run in found], COLUMNS, limit=limit, as_json=as_json)


@bulk_runs.command("show")
@ID
@AS_JSON
def show_run(run_id: str, *, as_json: bool) -> None:
    """All about one run, with the rows that it has not changed."""
    with closing(open_database()) as database, database.read() as session:
        run = get_run(session, parse(BULK_RUN, run_id))
        report = shown(run, rows.unchanged(session, run.id))
    if not as_json:
        report["rows"] = [f"{row['id']} {row['result']}: {row['why']}" for row in report["rows"]]
    print_one(report, as_json=as_json)


@bulk_runs.command("pause")
@ID
@AS_JSON
def pause_run(run_id: str, *, as_json: bool) -> None:
    """Stop a run after the chunk of rows that is being changed, until it is resumed."""
    _change(run_id, Change.PAUSE, as_json=as_json)


@bulk_runs.command("resume")
@ID
@AS_JSON
def resume_run(run_id: str, *, as_json: bool) -> None:
    """Let a paused run go on where it was."""
    _change(run_id, Change.RESUME, as_json=as_json)


@bulk_runs.command("cancel")
@ID
@AS_JSON
def cancel_run(run_id: str, *, as_json: bool) -> None:
    """End a run after the chunk of rows that is being changed. What it has changed stays so."""
    _change(run_id, Change.CANCEL, as_json=as_json)


def _change(run_id: str, change: Change, *, as_json: bool) -> None:
    settings, key = load_brokers(), parse(BULK_RUN, run_id)
    with closing(connect(settings.database)) as database, open_hints(settings) as hints:
        require_current(database)
        with database.write() as session:
            run = change_run(session, key, change, actor=cli_actor(), now=utc_now())
        if change is Change.RESUME:
            hints.of_bulk_runs()
    report = shown(run)
    del report["rows"]
    print_one(report, as_json=as_json)


def carry_out(
    database: Database, hints: Hints, wanted: RunWanted, *, of_connections: Callable[[Run], RowAct] | None = None
) -> tuple[Run, bool]:
    """Open a run and follow it to its end. Returns it, and whether Ctrl-C ended the following: the run goes on.

    of_connections: the acts on connections.
    """
    at_once = wanted.counted <= AT_ONCE and not wanted.act.asks_nango
    with database.write() as session:
        run = open_run(session, wanted, now=utc_now(), claimed=at_once)
    runner = BulkRunner(database, utc_now, RouteCache(), hints.of_jobs, hints.of_events, of_connections)
    shows = sys.stderr.isatty()
    try:
        with interrupts() as ctrl_c:
            if at_once:
                runner.carry_on(run, told=_telling(shows, ctrl_c))
            else:
                hints.of_bulk_runs()
            return _follow(runner, run, ctrl_c, told=_telling(shows, ctrl_c)), False
    except KeyboardInterrupt:
        name = show(BULK_RUN, run.id)
        click.echo(f"\nworkers carry it on: `waylink bulk-runs show {name}` shows it, `cancel` ends it", err=True)
        runner.set_aside(run)
        return _read(database, run), True
    finally:
        if shows:
            click.echo(err=True)


def _follow(runner: BulkRunner, run: Run, ctrl_c: Interrupts, *, told: Callable[[Run], None]) -> Run:
    """Wait until the run is over or paused; where no worker takes it, carry it out."""
    while (run := _read(runner.database, run)).state in AT_WORK:
        told(run)
        if run.next_at + UNCLAIMED < utc_now():
            runner.work(run_id=run.id, seconds=LOOK_EVERY)
            ctrl_c.check()
        else:
            ctrl_c.wait(LOOK_EVERY)
    told(run)
    return run


def _telling(shows: bool, ctrl_c: Interrupts) -> Callable[[Run], None]:
    def tell(run: Run) -> None:
        if shows:
            click.echo(f"\r{run.looked_at} of {run.counted}", err=True, nl=False)
        ctrl_c.check()

    return tell


def _read(database: Database, run: Run) -> Run:
    with database.read() as session:
        return get_run(session, run.id)


def result(run: Run | None, past: str, *, more: bool, stopped: bool) -> dict[str, Any]:
    """The answer of a command that carried out a run; None: nothing matched."""
    done, left = (run.done, run.left_alone + run.failed) if run else (0, 0)
    name = show(BULK_RUN, run.id) if run else None
    return {past: done, "left_alone": left, "more": more, "stopped": stopped, "run": name}
