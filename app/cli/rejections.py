"""`waylink rejections`: requests that web refused."""

from contextlib import closing
from datetime import timedelta

import click

from app.cli.options import AS_JSON, read_duration
from app.cli.output import print_page
from app.clock import utc_now
from app.config.loading import load_database
from app.db import rejections as rows
from app.db.engine import connect
from app.db.schema_version import require_current


@click.command()
@click.option("--environment", help="Of this environment.")
@click.option("--unknown-environment", "unknown", is_flag=True, help="Of URLs that name no environment there is.")
@click.option("--cause", help="For this cause.")
@click.option("--since", callback=read_duration, default="7d", show_default=True, help="Not longer ago.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
@AS_JSON
def rejections(
    *, environment: str | None, unknown: bool, cause: str | None, since: timedelta, limit: int, as_json: bool
) -> None:
    """List refused webhooks, newest first: a row per minute, environment and cause."""
    if unknown and environment is not None:
        raise click.UsageError("give --environment or --unknown-environment, and not both")
    with closing(connect(load_database().database)) as database:
        require_current(database)
        with database.read() as session:
            start = rows.minute_of(utc_now() - since)
            found = rows.newest(
                session, since=start, environment="" if unknown else environment, cause=cause, limit=limit + 1
            )
    columns = ("minute", "environment", "cause", "status", "count", "peak", "last_peer", "last_detail")
    print_page([rows.shown(row) for row in found], columns, limit=limit, as_json=as_json, cursor=None)
