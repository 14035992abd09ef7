"""Acts on many jobs: a preview with the exact count, then the act with a reason for the audit."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from starlette.responses import Response

from app.domain.acknowledging import AckKind
from app.domain.bulk_runs import BulkState
from app.domain.job_actions import PAST, JobAction
from app.errors import Conflict
from app.web.api import job_actions
from app.web.api.job_actions import JobFilter, JobsToActOn
from app.web.api.status import AcknowledgementWanted, acknowledge
from app.web.console import bulk_runs, notices
from app.web.console.fields import REFUSALS, Fields, Filter, Problems, given_in
from app.web.console.jobs import FOR_DESTINATION, FOR_EVENT, FOR_ROUTE, FOR_TIME, PATH
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, Visit, read_as

NO_REASON: Final = "Give a reason: the audit records it."
FIELDS: Final = Fields(
    JobFilter,
    (
        Filter("state"),
        Filter("team", hint="Of this team."),
        Filter("destination", check=FOR_DESTINATION),
        Filter("route", check=FOR_ROUTE),
        Filter("name", hint="Of this name, such as `crm.import_contacts`."),
        Filter("fault"),
        Filter("event", check=FOR_EVENT),
        Filter("created_since", check=FOR_TIME),
        Filter("ended_since", check=FOR_TIME),
    ),
)
_ACTS: Final = {
    JobAction.RETRY: job_actions.retry_jobs,
    JobAction.CANCEL: job_actions.cancel_jobs,
    JobAction.REDELIVER: job_actions.redeliver_jobs,
}
_OF_LOST: Final = frozenset({"destination", "ended_since"})  # without which jobs are not delivered twice
_RENAMED: Final = {"since": "created_since"}  # a filter of the list, and its name in acts


async def preview_jobs(context: ConsoleContext, visit: Visit) -> Response:
    """The jobs that an act would take, with their number; the filters can be changed."""
    given = {_RENAMED.get(name, name): value for name, value in given_in(visit).items()}
    action = read_as(JobAction, given.pop("act", JobAction.RETRY))
    given.pop("cursor", None)
    given.pop("limit", None)
    return await _preview(context, visit, action, given)


async def act_on_jobs(context: ConsoleContext, visit: Visit) -> Response:
    """Carry out an act on the jobs of the preview; where more match by now, show the preview anew."""
    given = {name: value.strip() for name, value in (await visit.form()).items() if value.strip()}
    action, reason, expected = (
        read_as(JobAction, given.pop("act", "")),
        given.pop("reason", ""),
        given.pop("expected", ""),
    )
    again = partial(_preview, context, visit, action, given, reason=reason)
    if not reason:
        return await again(problem=NO_REASON, status=422)
    try:
        body = JobsToActOn(filter=FIELDS.read(given), expected=read_as(int, expected), reason=reason[:500])
        done = await context.rows.run(partial(_ACTS[action].run, visit.call(context), body=body))
    except Conflict as changed:
        return await again(problem=str(changed), status=409)
    except REFUSALS:
        return await again()
    if done.run is not None and done.run.state != BulkState.DONE:
        return see_other(f"{bulk_runs.PATH}/{done.run.id}")
    onward = {name: value for name, value in given.items() if name in {"team", "destination", "route", "name"}}
    return see_other(link(PATH, **onward, done=notices.code(f"jobs_{PAST[action]}", done.changed)))


async def preview_acknowledgement(context: ConsoleContext, visit: Visit) -> Response:
    """The dead letters that an acknowledgement would mean: all, or those of `destination`."""
    return await _acknowledgement(context, visit, given_in(visit).get("destination"))


async def acknowledge_jobs(context: ConsoleContext, visit: Visit) -> Response:
    """Acknowledge the dead letters of the preview."""
    form = await visit.form()
    destination, reason = form.get("destination") or None, form.get("reason", "").strip()
    if not reason:
        return await _acknowledgement(context, visit, destination, problem=NO_REASON, status=422)
    body = AcknowledgementWanted(
        kind=AckKind.JOBS, destination=destination, note=reason[:500], expected=read_as(int, form.get("expected", ""))
    )
    try:
        done = await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
    except Conflict as changed:
        return await _acknowledgement(context, visit, destination, problem=str(changed), status=409, reason=reason)
    onward = link(PATH, state="discarded", destination=destination)
    return see_other(f"{onward}&{notices.PARAMETER}={notices.code('jobs_acknowledged', done.count)}")


async def _preview(
    context: ConsoleContext,
    visit: Visit,
    action: JobAction,
    given: Mapping[str, str],
    *,
    problem: str | None = None,
    reason: str = "",
    status: int = 200,
) -> Response:
    found = None
    problems: Problems = {}
    asks = action is JobAction.REDELIVER and not given.keys() >= _OF_LOST
    try:
        body = JobsToActOn(filter=FIELDS.read(given), dry_run=True)
        found = await context.rows.run(partial(_ACTS[action].run, visit.call(context), body=body))
    except REFUSALS as refused:
        problems, status = ({}, 200) if asks else (FIELDS.problems(refused), 422)
    return visit.page(
        "jobs_preview.html",
        status=status,
        action=action,
        filters=FIELDS.shown(given, problems),
        wrong=problems.get(""),
        asks=asks,
        found=found,
        given=given,
        problem=problem,
        reason=reason,
        back=link(PATH, **_of_list(given)),
    )


async def _acknowledgement(
    context: ConsoleContext,
    visit: Visit,
    destination: str | None,
    *,
    problem: str | None = None,
    reason: str = "",
    status: int = 200,
) -> Response:
    body = AcknowledgementWanted(kind=AckKind.JOBS, destination=destination, dry_run=True)
    found = await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
    values: dict[str, Any] = {"found": found, "destination": destination, "problem": problem, "reason": reason}
    back = link(PATH, state="discarded", destination=destination)
    return visit.page("jobs_acknowledge.html", status=status, back=back, **values)


def _of_list(given: Mapping[str, str]) -> dict[str, str]:
    """The filters that the list has, too."""
    names = {to: name for name, to in _RENAMED.items()}
    return {names.get(name, name): value for name, value in given.items() if name != "ended_since"}
