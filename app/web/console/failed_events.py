"""Failed events, many at once: retried or acknowledged, after a preview with the exact count."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from starlette.responses import Response

from app.domain.acknowledging import AckKind
from app.domain.bulk_runs import BulkState
from app.errors import Conflict
from app.web.api import event_actions
from app.web.api.event_actions import EventFilter, EventsToRetry
from app.web.api.status import AcknowledgementWanted, acknowledge
from app.web.console import bulk_runs, notices
from app.web.console.events import PATH
from app.web.console.fields import REFUSALS, Fields, Filter, Problems, given_in
from app.web.console.job_actions import NO_REASON
from app.web.console.jobs import FOR_TIME
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, Visit, read_as

FIELDS: Final = Fields(
    EventFilter,
    (
        Filter("failure"),
        Filter("type"),
        Filter("origin"),
        Filter("environment"),
        Filter("integration"),
        Filter("connection_id"),
        Filter("since", check=FOR_TIME),
    ),
)


async def preview_retry(context: ConsoleContext, visit: Visit) -> Response:
    """The failed events that a retry would take, with their number; the filters can be changed."""
    given = {name: value for name, value in given_in(visit).items() if name not in {"state", "cursor", "limit"}}
    return await _preview(context, visit, given)


async def retry_events(context: ConsoleContext, visit: Visit) -> Response:
    """Retry the failed events of the preview; where more match by now, show the preview anew."""
    given = {name: value.strip() for name, value in (await visit.form()).items() if value.strip()}
    reason, expected = given.pop("reason", ""), given.pop("expected", "")
    again = partial(_preview, context, visit, given, reason=reason)
    if not reason:
        return await again(problem=NO_REASON, status=422)
    try:
        body = EventsToRetry(filter=FIELDS.read(given), expected=read_as(int, expected), reason=reason[:500])
        done = await context.rows.run(partial(event_actions.retry_events.run, visit.call(context), body=body))
    except Conflict as changed:
        return await again(problem=str(changed), status=409)
    except REFUSALS:
        return await again()
    if done.run is not None and done.run.state != BulkState.DONE:
        return see_other(f"{bulk_runs.PATH}/{done.run.id}")
    return see_other(link(PATH, done=notices.code("events_retried", done.changed)))


async def preview_acknowledgement(context: ConsoleContext, visit: Visit) -> Response:
    """The failed events that an acknowledgement would mean."""
    return await _acknowledgement(context, visit)


async def acknowledge_events(context: ConsoleContext, visit: Visit) -> Response:
    """Acknowledge all failed events of the preview."""
    form = await visit.form()
    reason = form.get("reason", "").strip()
    if not reason:
        return await _acknowledgement(context, visit, problem=NO_REASON, status=422)
    body = AcknowledgementWanted(
        kind=AckKind.EVENTS, note=reason[:500], expected=read_as(int, form.get("expected", ""))
    )
    try:
        done = await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
    except Conflict as changed:
        return await _acknowledgement(context, visit, problem=str(changed), status=409, reason=reason)
    return see_other(link(PATH, state="failed", done=notices.code("events_acknowledged", done.count)))


async def _preview(
    context: ConsoleContext,
    visit: Visit,
    given: Mapping[str, str],
    *,
    problem: str | None = None,
    reason: str = "",
    status: int = 200,
) -> Response:
    found = None
    problems: Problems = {}
    try:
        body = EventsToRetry(filter=FIELDS.read(given), dry_run=True)
        found = await context.rows.run(partial(event_actions.retry_events.run, visit.call(context), body=body))
    except REFUSALS as refused:
        problems, status = FIELDS.problems(refused), 422
    return visit.page(
        "events_retry.html",
        status=status,
        filters=FIELDS.shown(given, problems),
        wrong=problems.get(""),
        found=found,
        given=given,
        problem=problem,
        reason=reason,
        back=link(PATH, state="failed"),
    )


async def _acknowledgement(
    context: ConsoleContext, visit: Visit, *, problem: str | None = None, reason: str = "", status: int = 200
) -> Response:
    body = AcknowledgementWanted(kind=AckKind.EVENTS, dry_run=True)
    found = await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
    back = link(PATH, state="failed")
    return visit.page("events_acknowledge.html", status=status, found=found, problem=problem, reason=reason, back=back)
