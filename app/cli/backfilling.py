"""`waylink routes backfill`: give a route the jobs of its history."""

import sys
from contextlib import closing
from datetime import datetime
from typing import Any

import click

from app.cli.bulk_acts import follow, require_consent
from app.cli.opening import cli_actor
from app.cli.options import AS_JSON, ROUTE, moment_option
from app.cli.output import print_one
from app.clock import utc_now
from app.config.loading import load_database
from app.db.engine import Database, connect
from app.db.schema import require_current
from app.domain.routing import Route
from app.ids import EVENT, show
from app.services.routing import backfills
from app.services.routing.backfills import MAX_JOBS, PER_SECOND, Found, Span
from app.targets import split_target


@click.command("backfill")
@ROUTE
@moment_option("--since", "Events received since then: 7d ago, or a time with its zone.", required=True)
@moment_option("--until", "Events received before then; else until now.")
@click.option("--limit", type=click.IntRange(1, MAX_JOBS), default=1000, show_default=True, help="Jobs at most.")
@click.option("--newest-first", is_flag=True, help="Begin with the newest events, instead of the oldest.")
@click.option(
    "--per-second",
    type=click.FloatRange(0.01, 1000),
    default=PER_SECOND,
    show_default=True,
    help="Jobs that become due per second, so that live ones find room between them.",
)
@click.option("--dry-run", is_flag=True, help="Say how many, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
def backfill(
    route: str,
    *,
    since: datetime,
    until: datetime | None,
    limit: int,
    newest_first: bool,
    per_second: float,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the jobs of stored events that match a route now and have no job of it.

    They say `"backfill": true`. Run again, it goes on with the events that are left.
    """
    team, name = split_target("route", route)
    with closing(connect(load_database().database)) as database:
        require_current(database)
        with database.read() as session:
            live = backfills.live_route(session, team=team, name=name)
        found = _look(database, live, Span(since, until or utc_now(), newest_first), limit)
        facts = _facts(found)
        if dry_run:
            print_one({"route": route, "dry_run": True, **facts}, as_json=as_json)
            return
        count = len(found.event_ids)
        click.echo(f"{facts['matched']} of {facts['looked_at']} events match, {count} without a job", err=True)
        if found.event_ids:
            minutes = f"{count / per_second / 60:.0f} min" if count / per_second > 90 else f"{count / per_second:.0f} s"
            place = f"{live.team}/{live.destination}"
            require_consent(f"Make {count} jobs {live.job!a} for {place}, within {minutes}?", yes=yes)
        asked = {"since": since.isoformat(), "until": (until or utc_now()).isoformat(), "limit": limit}
        steps = backfills.fill(
            database, live, found, per_second=per_second, asked=asked, actor=cli_actor(), clock=utc_now
        )
        made, stopped = follow(steps, count, None)
    print_one({"route": route, "made": made, "stopped": stopped, **facts}, as_json=as_json)
    sys.exit(1 if stopped else 0)


def _look(database: Database, route: Route, span: Span, limit: int) -> Found:
    found = Found()
    shows_progress = sys.stderr.isatty()
    for found in backfills.look(database, route, span, limit=limit):
        if shows_progress:
            click.echo(f"\r{found.looked_at} events, {len(found.event_ids)} to make", err=True, nl=False)
    if shows_progress:
        click.echo(err=True)
    return found


def _facts(found: Found) -> dict[str, Any]:
    return {
        "looked_at": found.looked_at,
        "matched": found.matched,
        "undecided": found.undecided,
        "had_job": found.had_job,
        "to_make": len(found.event_ids),
        "complete": found.complete,
        "samples": [show(EVENT, one.id) for one in found.samples],
    }
