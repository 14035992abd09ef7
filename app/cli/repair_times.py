"""`waylink connections repairs`."""

from contextlib import closing
from datetime import timedelta
from typing import Final

import click

from app.cli.opening import open_database
from app.cli.options import as_table, read_duration
from app.cli.output import print_list
from app.clock import utc_now
from app.db.read import repair_times
from app.domain.refreshing.lives import shown_span

COLUMNS: Final = ("environment", "integration", "open", "oldest_open_at", "repaired", "p50", "p90", "deleted")


@click.command("repairs")
@click.option("--since", metavar="SPAN", default="30d", callback=read_duration, help="Opened within so long, as 30d.")
@click.option("--environment", help="Of this environment.")
@as_table
def list_repairs(*, since: timedelta, environment: str | None, as_json: bool) -> None:
    """Show how long end users take to reconnect, by integration.

    Counts connections that needed it, and shows within how long, from the first failure on, half of those that were
    repaired were (p50), and nine tenths (p90).
    """
    with closing(open_database()) as database, database.read() as session:
        found = repair_times.by_integration(session, since=utc_now() - since, environment=environment)
    spans = [
        {"p50": shown_span(one.p50) if one.p50 else None, "p90": shown_span(one.p90) if one.p90 else None}
        for one in found
    ]
    print_list([one.shown() | span for one, span in zip(found, spans, strict=True)], COLUMNS, as_json=as_json)
