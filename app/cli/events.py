"""`waylink events`: list and show."""

from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import click

from app.cli import following
from app.cli.following import FOLLOW
from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import AS_JSON, BEFORE, LIMIT, as_table, choice, connection_filters, moment_option, search_option
from app.cli.output import print_one, print_page
from app.cli.paging import rows_of
from app.clock import utc_now
from app.db.read import listing, searching
from app.db.read.listing import ListFilters
from app.db.read.searching import Page
from app.domain.event import EventType
from app.domain.states import EventState, Origin
from app.ids import EVENT, parse
from app.search_input import read_search

ACTS: Final = {
    "replay": ("app.cli.event_actions:replay", "Give a stored event to the routes once more."),
    "retry": (
        "app.cli.event_actions:retry",
        "Take failed events up again, as if they had just come: by their ids, or all that the options mean.",
    ),
}


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@search_option("query", "'type:connection.created tag.plan:pro'", lambda text: read_search(text, now=utc_now()))
@click.option("--state", type=choice(EventState), help="In this state.")
@click.option("--type", "type_", type=choice(EventType), help="Of this type.")
@click.option("--origin", type=choice(Origin), help="From here.")
@connection_filters
@moment_option("--since", "Received since then: 7d ago, or a time with its zone.")
@BEFORE
@LIMIT
@FOLLOW
@as_table
@click.pass_context
def events(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
    follow: bool,
    before: str | None,
    type_: str | None,
    query: str | None,
    since: datetime | None,
    **filters: Any,
) -> None:
    """List events, newest first; `waylink events show ID` tells all about one."""
    if context.invoked_subcommand:
        return
    cursor, asked = parse(EVENT, before) if before else None, read_search(query, now=utc_now())
    wanted = ListFilters(
        search=searching.AT_MOST,
        type=type_,
        query=asked.query,
        since=asked.since_also(since),
        until=asked.until,
        event_id=asked.event_id,
        **filters,
    )
    columns = ("id", "age:received_at", "state", "type", "integration", "connection_id", "tags", "duplicates")
    with closing(open_database()) as database:

        def look(behind: UUID | None, rows: int) -> Page:
            with database.read() as session:
                return listing.events(session, replace(wanted, before=behind, limit=rows))

        if follow:
            newest = partial(look, None)
            following.follow(newest, columns, state=("id", "state"), limit=limit, as_json=as_json, before=before)
        else:
            rows = rows_of(look, EVENT, behind=cursor, count=limit + 1)
            print_page(rows, columns, limit=limit, as_json=as_json)


@events.command("show")
@click.argument("event_id")
@AS_JSON
def show_event(event_id: str, *, as_json: bool) -> None:
    """All about one event: body, document, decisions, jobs."""
    with closing(open_database()) as database, database.read() as session:
        print_one(listing.event(session, parse(EVENT, event_id)), as_json=as_json)
