"""Acts on an event: replay it through the routes, after a preview, and retry a failed one."""

from functools import partial
from typing import Final

from starlette.responses import Response

from app.services.routing.replays import Routes
from app.web.api import event_actions
from app.web.api.event_actions import Replayed, ReplayWanted
from app.web.console import notices
from app.web.console.events import PATH
from app.web.console.rendering import link, see_other
from app.web.console.serving import ConsoleContext, Visit, read_as

_AGAIN: Final = "yes"


async def preview_replay(context: ConsoleContext, visit: Visit) -> Response:
    """The effect of a replay for each route that matches."""
    query = visit.request.query_params
    return await _preview(context, visit, _wanted(query.get("routes"), query.get("again"), dry_run=True))


async def replay_event(context: ConsoleContext, visit: Visit) -> Response:
    """Replay an event."""
    form = await visit.form()
    wanted = _wanted(form.get("routes"), form.get("again"), dry_run=False)
    done = await _run(context, visit, wanted)
    due = [step for step in done.steps if step.outcome != "left_alone"]
    return see_other(link(f"{PATH}/{done.event_id}", done=notices.code("event_replayed", len(due))))


async def retry_event(context: ConsoleContext, visit: Visit) -> Response:
    """Process a failed event again."""
    event_id = visit.request.path_params["event_id"]
    done = await context.rows.run(partial(event_actions.retry_event.run, visit.call(context), event_id=event_id))
    return see_other(link(f"{PATH}/{done.id}", done=notices.code("event_retried")))


async def _preview(context: ConsoleContext, visit: Visit, wanted: ReplayWanted) -> Response:
    found = await _run(context, visit, wanted)
    due = [step for step in found.steps if step.outcome != "left_alone"]
    return visit.page("event_replay.html", found=found, wanted=wanted, due=len(due), choices=list(Routes))


async def _run(context: ConsoleContext, visit: Visit, wanted: ReplayWanted) -> Replayed:
    event_id = visit.request.path_params["event_id"]
    run = partial(event_actions.replay_event.run, visit.call(context), event_id=event_id, body=wanted)
    found: Replayed = await context.patterns.run(run)
    return found


def _wanted(routes: str | None, again: str | None, *, dry_run: bool) -> ReplayWanted:
    """Raises FormNotRead for routes that there are not."""
    return ReplayWanted(routes=read_as(Routes, routes or Routes.NOW), again=again == _AGAIN, dry_run=dry_run)
