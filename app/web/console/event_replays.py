"""Events that were routed, many at once: replayed by a bulk run, after a preview with the exact count."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from starlette.responses import Response

from app.errors import Conflict
from app.services.routing.replays import Routes
from app.web.api.event_replays import EventsReplayed, EventsToReplay, RoutedEventFilter, replay_events
from app.web.console import bulk_runs
from app.web.console.events import PATH
from app.web.console.fields import REFUSALS, Fields, Filter, Problems, given_in
from app.web.console.job_actions import NO_REASON
from app.web.console.jobs import FOR_TIME
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, Visit, read_as

ALL_DAY: Final = "1d"  # back from now, where the list had no time
_HOW: Final = ("routes", "again")
FIELDS: Final = Fields(
    RoutedEventFilter,
    (
        Filter("since", check=FOR_TIME),
        Filter("until", check=FOR_TIME),
        Filter("type"),
        Filter("origin"),
        Filter("environment"),
        Filter("integration"),
        Filter("connection_id"),
    ),
)


async def preview_replays(context: ConsoleContext, visit: Visit) -> Response:
    """The events that a replay would take, with their number; the filters can be changed."""
    left_out = {"state", "cursor", "limit"}
    given = {name: value for name, value in given_in(visit).items() if name not in left_out}
    return await _preview(context, visit, {"since": ALL_DAY, **given})


async def replay_all(context: ConsoleContext, visit: Visit) -> Response:
    """Replay the events of the preview; where more match by now, show the preview anew."""
    given = {name: value.strip() for name, value in (await visit.form()).items() if value.strip()}
    reason, expected = given.pop("reason", ""), given.pop("expected", "")
    again = partial(_preview, context, visit, given, reason=reason)
    if not reason:
        return await again(problem=NO_REASON, status=422)
    try:
        done = await _run(context, visit, given, expected=read_as(int, expected), reason=reason[:500])
    except Conflict as changed:
        return await again(problem=str(changed), status=409)
    except REFUSALS:
        return await again()
    return see_other(f"{bulk_runs.PATH}/{done.run.id}" if done.run is not None else link(PATH))


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
        found = await _run(context, visit, given)
    except REFUSALS as refused:
        problems, status = FIELDS.problems(refused), 422
    return visit.page(
        "events_replay.html",
        status=status,
        filters=FIELDS.shown(given, problems),
        wrong=problems.get(""),
        found=found,
        given=given,
        routes=_routes(given),
        again="again" in given,
        choices=list(Routes),
        problem=problem,
        reason=reason,
        back=link(PATH),
    )


async def _run(
    context: ConsoleContext,
    visit: Visit,
    given: Mapping[str, str],
    *,
    expected: int | None = None,
    reason: str | None = None,
) -> EventsReplayed:
    """Without `expected` a dry run."""
    body = EventsToReplay(
        filter=FIELDS.read({name: value for name, value in given.items() if name not in _HOW}),
        routes=_routes(given),
        again="again" in given,
        dry_run=expected is None,
        expected=expected,
        reason=reason,
    )
    done: EventsReplayed = await context.patterns.run(partial(replay_events.run, visit.call(context), body=body))
    return done


def _routes(given: Mapping[str, str]) -> Routes:
    """Raises FormNotRead for routes that there are not."""
    return read_as(Routes, given.get("routes", Routes.NOW))
