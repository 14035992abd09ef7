"""The endpoint that replays all events of a filter, by a bulk run."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.db import event_actions as rows
from app.db.event_actions import EventFilters
from app.domain.access import Scope
from app.domain.bulk_runs import BulkAct
from app.domain.event import EventType
from app.domain.states import Origin
from app.ids import EVENT, show
from app.search_input import read_search
from app.services.bulk_runs.row_acts import ReplayedEvents, written
from app.services.bulk_runs.run_requests import RunWanted
from app.services.bulk_runs.showing import shown_filter
from app.services.routing.replays import Routes
from app.timestamp_input import moment
from app.web.api.bulk_runs import BulkRun, carry_out
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.event_actions import SAMPLES, Expected, Text, When, resolved_search
from app.web.api.expected import require_expected
from app.web.api.problems import INVALID_INPUT


class RoutedEventFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions on events that were routed, all of which have to hold. Times are those of receipt."""

    since: When
    until: When | None = None
    type: EventType | None = None
    origin: Origin | None = None
    environment: Text | None = None
    integration: Text | None = None
    connection_id: Text | None = None
    q: Annotated[str, Meta(max_length=1000, description="That meet this search, as in their list.")] | None = None


class EventsToReplay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The events, and how each is replayed. They are counted with `dry_run` first; the call that follows repeats the
    count in `expected`.
    """

    filter: RoutedEventFilter
    routes: Annotated[Routes, Meta(description="Those in force `now`, or those of its time (`then`).")] = Routes.NOW
    again: Annotated[bool, Meta(description="Jobs that are there already go out again, too.")] = False
    limit: Annotated[int, Meta(ge=1, description="Events at most; else all.")] | None = None
    dry_run: Annotated[bool, Meta(description="Count, show samples, and change nothing.")] = False
    expected: Expected | None = None
    reason: Annotated[str, Meta(max_length=500, description="Recorded in the audit.")] | None = None


class EventsReplayed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` events are selected, some as samples; `more`: beyond the limit there are others. `run` replays them: it
    may go on after the answer.
    """

    dry_run: bool
    count: int
    more: bool
    samples: list[str]
    run: BulkRun | None


@endpoint("POST /events/replay", scope=Scope.OPERATOR, matches_patterns=True, problems=(INVALID_INPUT,))
def replay_events(call: Call, body: EventsToReplay) -> EventsReplayed:
    """Route stored events once more: afterwards each matching route has one job of each."""
    now = call.context.clock()
    filters = _filters(body.filter, call)
    with call.context.database.read() as session:
        matching = rows.count(session, filters, failed=False)
        samples = rows.page(session, filters, failed=False, after=None, limit=SAMPLES)
    count = matching if body.limit is None else min(matching, body.limit)
    if not body.dry_run:
        require_expected(count, body.expected, noun="event")
    run = None
    if count and not body.dry_run:
        chosen = written(ReplayedEvents(filters=filters, routes=body.routes, again=body.again))
        wanted = RunWanted(
            act=BulkAct.REPLAY_EVENTS,
            chosen=chosen,
            shown=shown_filter(chosen),
            counted=count,
            reason=body.reason,
            actor=call.actor,
        )
        run = carry_out(call, wanted, now=now)
    return EventsReplayed(
        dry_run=body.dry_run,
        count=count,
        more=matching > count,
        samples=[show(EVENT, event_id) for event_id in samples],
        run=run,
    )


def _filters(given: RoutedEventFilter, call: Call) -> EventFilters:
    now = call.context.clock()
    asked = read_search(given.q, now=now)
    return EventFilters(
        type=given.type,
        origin=given.origin,
        environment=given.environment,
        integration=given.integration,
        connection_id=given.connection_id,
        since=asked.since_also(moment(given.since, now=now)),
        until=asked.until_also(moment(given.until, now=now) if given.until is not None else None),
        q=resolved_search(call, asked.query),
        event_id=asked.event_id,
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (replay_events,)
