"""`waylink rejections`: requests that web refused."""

from contextlib import closing
from datetime import timedelta
from typing import Any

import click

from app.cli import following
from app.cli.following import FOLLOW
from app.cli.options import as_table, read_duration
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
@FOLLOW
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
@as_table
def rejections(
    *,
    environment: str | None,
    unknown: bool,
    cause: str | None,
    since: timedelta,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """List refused webhooks, newest first: a row per minute, environment and cause."""
    if unknown and environment is not None:
        raise click.UsageError("give --environment or --unknown-environment, and not both")
    with closing(connect(load_database().database)) as database:
        require_current(database)
        start, of = rows.minute_of(utc_now() - since), "" if unknown else environment

        def look(count: int) -> list[dict[str, Any]]:
            with database.read() as session:
                found = rows.newest(session, since=start, environment=of, cause=cause, limit=count)
            return [rows.shown(row) for row in found]

        columns = ("minute", "environment", "cause", "status", "count", "last_peer", "last_detail", "peak")
        if follow:
            state = ("minute", "environment", "cause", "count")
            following.follow(look, columns, state=state, limit=limit, as_json=as_json)
        else:
            print_page(look(limit + 1), columns, limit=limit, as_json=as_json, cursor=None)
