"""Events: the list, and an event with its stages, decisions, body, and difference to the connection's previous one."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace
from starlette.responses import Response

from app.domain.acknowledging import AckKind
from app.domain.difference import Difference, difference
from app.domain.masking import masked_at, masked_body, masked_document
from app.domain.search import MAX_LENGTH, PARAMETER
from app.errors import Conflict, NotFound
from app.web.api import dry_runs, records
from app.web.api.dry_runs import ConditionRow, EventExplanation, ExplainQuery
from app.web.api.endpoint import Call
from app.web.api.searches import suggest_searches
from app.web.api.shapes import EventRecord, JobRecord
from app.web.api.status import AcknowledgementWanted, acknowledge
from app.web.console import notices
from app.web.console.calling import ask
from app.web.console.connections import person_of
from app.web.console.jobs import FOR_TIME
from app.web.console.lists import Filter, List
from app.web.console.rendering import link, see_other
from app.web.console.saved_view_pages import views_of
from app.web.console.serving import ConsoleContext, Visit
from app.web.console.stages import bars, stages

PATH: Final = "/console/events"
MOST_JOBS: Final = 20  # whose attempts a page shows
MOST_ROUTES: Final = 50  # whose decisions a page shows
# Members of a document that differ between any two events.
_OWN: Final = frozenset({"id", "occurred_at"})
_SEARCH: Final = (
    "Such as `type:connection.created tag.plan:pro`, `user:ada@example.com`, an id, or text. All terms must hold; "
    "quotes hold a value with spaces together."
)
LIST: Final = List(
    records.list_events,
    (
        Filter(PARAMETER, "Search", hint=_SEARCH),
        Filter("state"),
        Filter("type"),
        Filter("origin"),
        Filter("environment"),
        Filter("integration"),
        Filter("connection_id"),
        Filter("since", check=FOR_TIME),
        Filter("until", check=FOR_TIME),
        Filter("processed_since", check=FOR_TIME),
        Filter("processed_until", check=FOR_TIME),
    ),
)


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """An event with its first MOST_JOBS jobs. changes: of its document since the connection's previous event; None
    where there is none to compare with.
    """

    event: EventRecord
    jobs: list[JobRecord]
    changes: Difference | None


async def show_events(context: ConsoleContext, visit: Visit) -> Response:
    """Events, newest first, with terms that the search can be completed by."""
    found = await LIST.read(context, visit)
    typed = found.query.get(PARAMETER, "")[:MAX_LENGTH]
    suggested = await ask(context, visit, suggest_searches, query={PARAMETER: f"{typed} ".lstrip()[:MAX_LENGTH]})
    views = await views_of(context, visit, "events", found)
    keys = context.api.policy.tag_keys
    people = [person_of(row.tags or {}, keys) for row in found.rows]
    return visit.page(
        "events.html",
        status=found.status,
        list=found,
        suggestions=suggested.data,
        views=views,
        people=people,
        of_people={keys.user_name, keys.user_email},
    )


async def show_event(context: ConsoleContext, visit: Visit) -> Response:
    """All about one event."""
    call, event_id = visit.call(context), visit.request.path_params["event_id"]
    found: FoundEvent = await context.rows.run(partial(_read, call, event_id))
    explained = await context.patterns.run(partial(_explained, call, event_id)) if found.event.route_set else None
    document = found.event.document
    return visit.page(
        "event.html",
        event=found.event,
        jobs=found.jobs,
        bars=bars(stages(found.event, found.jobs), now=context.clock()),
        body=masked_body(found.event.body) if found.event.body is not None else None,
        document=masked_document(document) if document is not None else None,
        changes=found.changes,
        explained=explained,
    )


async def acknowledge_event(context: ConsoleContext, visit: Visit) -> Response:
    """Acknowledge one failed event."""
    event_id = visit.request.path_params["event_id"]
    body = AcknowledgementWanted(kind=AckKind.EVENTS, id=event_id)
    await context.rows.run(partial(acknowledge.run, visit.call(context), body=body))
    return see_other(link(f"{PATH}/{event_id}", done=notices.code("event_acknowledged")))


def _read(call: Call, event_id: str) -> FoundEvent:
    event: EventRecord = records.get_event.run(call, event_id=event_id)
    jobs = [records.get_job.run(call, job_id=job.id) for job in event.jobs[:MOST_JOBS]]
    return FoundEvent(event, jobs, _changes(call, event))


def _changes(call: Call, event: EventRecord) -> Difference | None:
    if event.previous_id is None or event.document is None:
        return None
    try:
        before: EventRecord = records.get_event.run(call, event_id=event.previous_id)
    except NotFound:  # it was deleted meanwhile
        return None
    if before.document is None:
        return None
    old, new = (
        {name: value for name, value in masked_document(each).items() if name not in _OWN}
        for each in (before.document, event.document)
    )
    return difference(old, new)


def _explained(call: Call, event_id: str) -> EventExplanation | None:
    """The decision of every route; None for an event that routes have not seen."""
    try:
        found: EventExplanation = dry_runs.explain_event.run(
            call, event_id=event_id, query=ExplainQuery(limit=MOST_ROUTES)
        )
    except Conflict:
        return None
    routes = [replace(route, conditions=_masked(route.conditions)) for route in found.routes]
    return replace(found, routes=routes)


def _masked(conditions: list[ConditionRow]) -> list[ConditionRow]:
    """The conditions with actual values that show no credential of a forwarded webhook."""
    return [
        replace(
            each, actual=masked_at(each.path, each.actual), alternatives=[_masked(one) for one in each.alternatives]
        )
        for each in conditions
    ]
