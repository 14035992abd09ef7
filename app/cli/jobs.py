"""`waylink jobs`: list and show."""

from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

import click

from app.cli import following
from app.cli.following import FOLLOW
from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import AS_JSON, BEFORE, LIMIT, as_table, choice, moment_option
from app.cli.output import print_one, print_page
from app.cli.paging import rows_of
from app.db.read import listing, searching
from app.db.read.listing import ListFilters
from app.db.read.searching import Page
from app.domain.states import Fault, JobState
from app.ids import EVENT, JOB, parse
from app.qualified_names import within

ACTS: Final = {
    "summary": (
        "app.cli.queues:summary",
        "Count unfinished and discarded jobs, by destination, state and fault.",
    ),
    "retry": (
        "app.cli.job_actions:retry",
        "Deliver jobs again that were discarded or cancelled, or that wait for their next attempt.",
    ),
    "cancel": ("app.cli.job_actions:cancel", "Stop jobs that are not delivered yet."),
    "redeliver": (
        "app.cli.job_actions:redeliver",
        "Hand completed jobs over again, with the same ids: what a team's broker lost.",
    ),
}


@click.group(cls=Listing, lazy=ACTS, invoke_without_command=True)
@click.option("--state", type=choice(JobState), help="In this state.")
@click.option("--team", help="Of this team.")
@click.option("--destination", metavar="TEAM/NAME", help="For this destination.")
@click.option("--route", metavar="TEAM/NAME", help="Of this route.")
@click.option("--name", help="Of this name, such as crm.import_contacts.")
@click.option("--fault", type=choice(Fault), help="Discarded, and whose fault it is.")
@click.option("--event", "event_id", metavar="ID", help="Of this event.")
@moment_option("--since", "Made since then: 7d ago, or a time with its zone.")
@BEFORE
@LIMIT
@FOLLOW
@as_table
@click.pass_context
def jobs(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
    follow: bool,
    before: str | None,
    event_id: str | None,
    team: str | None,
    destination: str | None,
    route: str | None,
    **filters: Any,
) -> None:
    """List jobs, newest first; `waylink jobs show ID` tells all about one."""
    if context.invoked_subcommand:
        return
    owner, target = within(team, "destination", destination)
    owner, named = within(owner, "route", route)
    cursor = parse(JOB, before) if before else None
    event = parse(EVENT, event_id) if event_id else None
    wanted = ListFilters(
        search=searching.AT_MOST, event_id=event, team=owner, destination=target, route=named, **filters
    )
    columns = (
        *("id", "age:created_at", "state", "team", "destination", "name"),
        *("problem", "attempts", "fault", "route", "event_id"),
    )
    with closing(open_database()) as database:

        def look(behind: UUID | None, rows: int) -> Page:
            with database.read() as session:
                return listing.jobs(session, replace(wanted, before=behind, limit=rows))

        if follow:
            newest = partial(look, None)
            following.follow(newest, columns, state=("id", "state"), limit=limit, as_json=as_json, before=before)
        else:
            rows = rows_of(look, JOB, behind=cursor, count=limit + 1)
            print_page(rows, columns, limit=limit, as_json=as_json)


@jobs.command("show")
@click.argument("job_id")
@AS_JSON
def show_job(job_id: str, *, as_json: bool) -> None:
    """All about one job, its attempts included."""
    with closing(open_database()) as database, database.read() as session:
        print_one(listing.job(session, parse(JOB, job_id)), as_json=as_json)
