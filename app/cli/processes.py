"""`waylink processes`: the processes of the last day."""

from contextlib import closing

import click

from app.cli.opening import open_database
from app.cli.options import as_table, choice
from app.cli.output import print_list
from app.clock import utc_now
from app.db.read import processes as reading
from app.domain.liveness import ProcessKind

COLUMNS = ("kind", "host", "pid", "state", "seen", "task", "progress", "version", "clock_ahead", "age:started_at")


@click.command()
@click.option("--kind", type=choice(ProcessKind), help="Of this kind.")
@as_table
def processes(*, kind: str | None, as_json: bool) -> None:
    """List the processes of the last day, with what they did last and do now. Ages are in seconds."""
    with closing(open_database()) as database, database.read() as session:
        found = reading.all_processes(session, now=utc_now())
    rows = [reading.shown(process) for process in found if kind in {None, str(process.kind)}]
    print_list(rows, COLUMNS, as_json=as_json)
