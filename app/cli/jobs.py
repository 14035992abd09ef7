"""`waylink jobs`: list and show, and what can be done with them."""

from contextlib import closing
from typing import Any, Final

import click

from app.cli.lazy import Listing
from app.cli.opening import open_database
from app.cli.options import AS_JSON, BEFORE, LIMIT, choice
from app.cli.output import print_one, print_page
from app.db.read import listing
from app.db.read.listing import Filters
from app.domain.states import Fault, JobState
from app.ids import EVENT, JOB, parse
from app.targets import within

ACTS: Final = {
    "cancel": ("app.cli.job_acts:cancel", "Stop jobs that are not handed over yet."),
    "redeliver": (
        "app.cli.job_acts:redeliver",
        "Hand completed jobs over again, with the same ids: what a team's broker lost.",
    ),
    "retry": (
        "app.cli.job_acts:retry",
        "Hand jobs over again that were discarded or cancelled, or that wait for their next try.",
    ),
    "summary": (
        "app.cli.queues:summary",
        "How many jobs there are unfinished and discarded, by destination, state and fault.",
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
@BEFORE
@LIMIT
@AS_JSON
@click.pass_context
def jobs(
    context: click.Context,
    /,
    *,
    as_json: bool,
    limit: int,
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
    wanted = Filters(
        limit=limit + 1, before=cursor, event_id=event, team=owner, destination=target, route=named, **filters
    )
    with closing(open_database()) as database, database.read() as session:
        rows = listing.jobs(session, wanted)
    columns = ("id", "name", "team", "destination", "state", "fault", "attempts", "route", "event_id", "problem")
    print_page(rows, columns, limit=limit, as_json=as_json)


@jobs.command("show")
@click.argument("job_id")
@AS_JSON
def show_job(job_id: str, *, as_json: bool) -> None:
    """All about one job, its attempts included."""
    with closing(open_database()) as database, database.read() as session:
        print_one(listing.job(session, parse(JOB, job_id)), as_json=as_json)
