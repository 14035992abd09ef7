"""`waylink events`: list and show, and what can be done with them."""

from contextlib import closing
from typing import Any, Final

import click

from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import AS_JSON, BEFORE, LIMIT, choice, connection_filters
from app.cli.output import print_one, print_page
from app.db.read import listing
from app.db.read.listing import Filters
from app.domain.event import EventType
from app.domain.states import EventState, Origin
from app.ids import EVENT, parse

ACTS: Final = {
    "replay": ("app.cli.event_acts:replay", "Give a stored event to the routes once more."),
    "retry": (
        "app.cli.event_acts:retry",
        "Take failed events up again, as if they had just come: by their ids, or all that the options mean.",
    ),
}


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
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
        rows = listing.events(session, Filters(limit=limit + 1, before=cursor, type=type_, **filters))
    columns = ("id", "type", "state", "integration", "connection_id", "duplicates", "tags", "received_at")
    print_page(rows, columns, limit=limit, as_json=as_json)


@events.command("show")
@click.argument("event_id")
@AS_JSON
def show_event(event_id: str, *, as_json: bool) -> None:
    """All about one event: body, document, decisions, jobs."""
    with closing(open_database()) as database, database.read() as session:
        print_one(listing.event(session, parse(EVENT, event_id)), as_json=as_json)
