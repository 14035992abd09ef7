"""`waylink events|jobs`: list and show."""

from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import click

from app.cli.output import print_one, print_rows
from app.configuration import load
from app.db import listing
from app.db.engine import Database, connect
from app.db.listing import Filters
from app.db.schema import require_current
from app.domain.event import EventType
from app.domain.states import EventState, JobState, Origin
from app.ids import EVENT, JOB, parse

Command = TypeVar("Command", bound=Callable[..., Any])

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
LIMIT = click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Rows at most.")
BEFORE = click.option("--before", metavar="ID", help="Go on after this row: older ones only.")


def choice(values: type[Any]) -> click.Choice[str]:
    return click.Choice([str(value) for value in values])


def open_database() -> Database:
    database = connect(load().database)
    require_current(database)
    return database


def connection_filters(command: Command) -> Command:
    for option in (
        click.option("--environment", help="Of this environment."),
        click.option("--integration", help="Of this integration."),
        click.option("--connection-id", help="Of this connection of Nango's."),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("--state", type=choice(EventState), help="In this state.")
@click.option("--type", "type_", type=choice(EventType), help="Of this type.")
@click.option("--origin", type=choice(Origin), help="From here.")
@connection_filters
@BEFORE
@LIMIT
@AS_JSON
@click.pass_context
def events(
    context: click.Context, /, *, as_json: bool, limit: int, before: str | None, type_: str | None, **filters: Any
) -> None:
    """List events, newest first; `waylink events show ID` tells all about one."""
    if context.invoked_subcommand:
        return
    cursor = parse(EVENT, before) if before else None
    with closing(open_database()) as database, database.read() as session:
        rows = listing.events(session, Filters(limit=limit, before=cursor, type=type_, **filters))
    columns = ("id", "type", "state", "integration", "connection_id", "duplicates", "tags", "received_at")
    print_rows(rows, columns, as_json=as_json)


@events.command("show")
@click.argument("event_id")
@AS_JSON
def show_event(event_id: str, *, as_json: bool) -> None:
    """All about one event: body, document, decisions, jobs."""
    with closing(open_database()) as database, database.read() as session:
        print_one(listing.event(session, parse(EVENT, event_id)), as_json=as_json)


@click.group(invoke_without_command=True)
@click.option("--state", type=choice(JobState), help="In this state.")
@click.option("--team", help="Of this team.")
@click.option("--event", "event_id", metavar="ID", help="Of this event.")
@BEFORE
@LIMIT
@AS_JSON
@click.pass_context
def jobs(
    context: click.Context, /, *, as_json: bool, limit: int, before: str | None, event_id: str | None, **filters: Any
) -> None:
    """List jobs, newest first; `waylink jobs show ID` tells all about one."""
    if context.invoked_subcommand:
        return
    cursor = parse(JOB, before) if before else None
    event = parse(EVENT, event_id) if event_id else None
    with closing(open_database()) as database, database.read() as session:
        rows = listing.jobs(session, Filters(limit=limit, before=cursor, event_id=event, **filters))
    columns = ("id", "name", "team", "state", "attempts", "route", "event_id")
    print_rows(rows, columns, as_json=as_json)


@jobs.command("show")
@click.argument("job_id")
@AS_JSON
def show_job(job_id: str, *, as_json: bool) -> None:
    """All about one job, its attempts included."""
    with closing(open_database()) as database, database.read() as session:
        print_one(listing.job(session, parse(JOB, job_id)), as_json=as_json)
