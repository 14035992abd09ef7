"""Jobs: the list, a job with its attempts, and acts on one job."""

from functools import partial
from typing import Final

from starlette.responses import Response

from app.clock import utc_now
from app.domain.acknowledging import AckKind
from app.domain.job_actions import PAST, TAKES, JobAction
from app.domain.states import JobState
from app.ids import EVENT, parse
from app.qualified_names import split_target
from app.timestamp_input import moment
from app.web.api import job_actions, records, status
from app.web.api.status import AcknowledgementWanted
from app.web.console import notices
from app.web.console.lists import Filter, List
from app.web.console.rendering import link, see_other
from app.web.console.saved_view_pages import views_of
from app.web.console.serving import ConsoleContext, Visit

PATH: Final = "/console/jobs"
FOR_DESTINATION: Final = partial(split_target, "destination")
FOR_ROUTE: Final = partial(split_target, "route")
FOR_EVENT: Final = partial(parse, EVENT)
FOR_TIME: Final = lambda text: moment(text, now=utc_now())  # noqa: E731
LIST: Final = List(
    records.list_jobs,
    (
        Filter("state"),
        Filter("team"),
        Filter("destination", check=FOR_DESTINATION),
        Filter("route", check=FOR_ROUTE),
        Filter("name"),
        Filter("fault"),
        Filter("event", check=FOR_EVENT),
        Filter("parked"),
        Filter("since", check=FOR_TIME),
        Filter("until", check=FOR_TIME),
        Filter("ended_since", check=FOR_TIME),
        Filter("ended_until", check=FOR_TIME),
    ),
)
_ACTS: Final = {
    JobAction.RETRY: job_actions.retry_job,
    JobAction.CANCEL: job_actions.cancel_job,
    JobAction.REDELIVER: job_actions.redeliver_job,
}


async def show_jobs(context: ConsoleContext, visit: Visit) -> Response:
    """Jobs, newest first."""
    found = await LIST.read(context, visit)
    views = await views_of(context, visit, "jobs", found)
    return visit.page("jobs.html", status=found.status, list=found, states=list(JobState), views=views)


async def show_job(context: ConsoleContext, visit: Visit) -> Response:
    """One job with its attempts, and the acts that its state takes."""
    read = partial(records.get_job.run, visit.call(context), job_id=visit.request.path_params["job_id"])
    job = await context.rows.run(read)
    acts = [action for action in JobAction if job.state in TAKES[action]]
    return visit.page("job.html", job=job, acts=acts)


async def act_on_job(context: ConsoleContext, visit: Visit, *, action: JobAction) -> Response:
    """Carry out an act on one job."""
    job_id = visit.request.path_params["job_id"]
    done = await context.rows.run(partial(_ACTS[action].run, visit.call(context), job_id=job_id))
    code = notices.code(f"job_{PAST[action]}" if done.changed else "job_unchanged")
    return see_other(link(f"{PATH}/{done.id}", done=code))


async def acknowledge_job(context: ConsoleContext, visit: Visit) -> Response:
    """Acknowledge one dead letter."""
    job_id = visit.request.path_params["job_id"]
    body = AcknowledgementWanted(kind=AckKind.JOBS, id=job_id)
    await context.rows.run(partial(status.acknowledge.run, visit.call(context), body=body))
    return see_other(link(f"{PATH}/{job_id}", done=notices.code("job_acknowledged")))
