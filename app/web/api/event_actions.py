"""Endpoints to retry failed events, replay a stored event, and backfill a route from history."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import Meta, Struct

from app.db import event_actions as rows
from app.db.event_actions import ChosenEvent, EventFilters
from app.db.read import searched_connections
from app.domain.access import Scope
from app.domain.bulk_runs import BulkAct
from app.domain.event import EventType
from app.domain.routing import Route
from app.domain.search import Search
from app.domain.states import EventState, Origin
from app.errors import Conflict, InvalidInput, NotFound
from app.ids import EVENT, JOB, show
from app.qualified_names import split_target
from app.search_input import read_search
from app.services.bulk_runs import row_acts
from app.services.bulk_runs.run_requests import RunWanted
from app.services.routing import backfills, replays
from app.services.routing.backfills import PER_SECOND, BackfillScan, Span
from app.services.routing.replays import Replay, Routes, Step
from app.timestamp_input import moment
from app.web.api.bulk_runs import BulkRun, carry_out
from app.web.api.endpoint import Call, Endpoint, endpoint
from app.web.api.expected import require_expected
from app.web.api.problems import INVALID_INPUT, NOT_FOUND
from app.web.api.reading import identity

MOST: Final = 10_000  # events or jobs of one call
SECONDS: Final = 10.0  # of one call's scan of history
MAX_SCANNED: Final = 20_000  # events of one call's scan
SAMPLES: Final = 10
When = Annotated[str, Meta(description="A time with its zone, or how long ago: `7d`.", max_length=64)]
Text = Annotated[str, Meta(max_length=255)]
Count = Annotated[int, Meta(ge=0, le=MOST, description="The `count` of the dry run: more by now is a 409.")]

Expected = Annotated[int, Meta(ge=0, description="The `count` of the dry run: more by now is a 409.")]


class EventFilter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions on failed events, all of which have to hold. Times are those of receipt."""

    failure: Literal["not_confirmed", "error", "crashed"] | None = None
    type: EventType | None = None
    origin: Origin | None = None
    environment: Text | None = None
    integration: Text | None = None
    connection_id: Text | None = None
    since: When | None = None
    until: When | None = None
    q: Annotated[str, Meta(max_length=1000, description="That meet this search, as in their list.")] | None = None


class EventsToRetry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `ids` or `filter`. A filter is tried with `dry_run` first; the call that follows repeats its count in
    `expected`.
    """

    ids: Annotated[list[Text], Meta(min_length=1, max_length=1000)] | None = None
    filter: EventFilter | None = None
    limit: Annotated[int, Meta(ge=1, description="Events of a filter at most; else all.")] | None = None
    dry_run: Annotated[bool, Meta(description="Count, show samples, and change nothing.")] = False
    expected: Expected | None = None
    reason: Annotated[str, Meta(max_length=500, description="Recorded in the audit.")] | None = None


class EventsRetried(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`count` failed events were selected, `changed` of them retried by the end of the call; `more`: beyond the limit
    there are others. `run`: of a filter, the bulk run that carries it out: it may go on after the answer.
    """

    dry_run: bool
    count: int
    more: bool
    changed: int
    samples: list[str]
    run: BulkRun | None


class EventRetried(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`changed` is false where the event waits to be processed already."""

    id: str
    changed: bool


class ReplayWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    routes: Annotated[Routes, Meta(description="Those in force `now`, or those of its time (`then`).")] = Routes.NOW
    again: Annotated[bool, Meta(description="Jobs that are there already go out again, too.")] = False
    route: Annotated[Text, Meta(description="This route alone, `TEAM/NAME`.")] | None = None
    dry_run: Annotated[bool, Meta(description="Say what would be done, and change nothing.")] = False


class ReplayedRoute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A route that matches, and what becomes of its job: `new`, `retried`, `redelivered` or `left_alone`."""

    route: str
    version: int
    team: str
    destination: str
    outcome: str
    job_id: str | None
    why: str | None


class Replayed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`untold`: why the event was not announced to teams when it was processed."""

    event_id: str
    routes: str
    route_set: int
    untold: str | None
    dry_run: bool
    steps: list[ReplayedRoute]


class BackfillWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The events to route, and a limit of jobs. It is tried with `dry_run` first; the call that follows repeats its
    count in `expected`.
    """

    since: When
    until: When | None = None
    after: Annotated[Text, Meta(description="Go on behind this event: `after` of the answer before.")] | None = None
    newest_first: bool = False
    limit: Annotated[int, Meta(ge=1, le=MOST, description="Jobs at most.")] = 1000
    per_second: Annotated[float, Meta(gt=0, le=1000, description="Jobs that become due per second.")] = PER_SECOND
    dry_run: Annotated[bool, Meta(description="Count, show samples, and change nothing.")] = False
    expected: Count | None = None


class Backfilled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of `looked_at` events `matched` match, `had_job` of which have a job already. `count` remain, and `made` of them
    got one. `undecided`: events whose match would have taken too much work. `complete`: all events of the time were
    looked at; else continue with `after`.
    """

    team: str
    route: str
    dry_run: bool
    looked_at: int
    matched: int
    undecided: int
    had_job: int
    count: int
    made: int
    complete: bool
    after: str | None
    samples: list[str]


@endpoint("POST /events/retry", scope=Scope.OPERATOR, problems=(INVALID_INPUT, NOT_FOUND))
def retry_events(call: Call, body: EventsToRetry) -> EventsRetried:
    """Process failed events again, as if they had just arrived."""
    if (body.ids is None) is (body.filter is None):
        raise InvalidInput("give either `ids` or a `filter`")
    if body.filter is not None:
        return _retry_matching(call, body, body.filter)
    ids = body.ids or []
    found = [event for event in _named(call, ids) if event.state == EventState.FAILED]
    asked: dict[str, Any] = {"ids": ids[:100]} if body.reason is None else {"ids": ids[:100], "reason": body.reason}
    changed = [] if body.dry_run else _retry(call, found, asked)
    samples = [show(EVENT, event.id) for event in found[:SAMPLES]]
    return EventsRetried(
        dry_run=body.dry_run, count=len(found), more=False, changed=len(changed), samples=samples, run=None
    )


def _retry_matching(call: Call, body: EventsToRetry, given: EventFilter) -> EventsRetried:
    now, filters, run = call.context.clock(), _filters(call, given), None
    with call.context.database.read() as session:
        matching = rows.count(session, filters, failed=True)
        samples = rows.choose_failed(session, filters, limit=SAMPLES)
    count = matching if body.limit is None else min(matching, body.limit)
    if not body.dry_run:
        require_expected(count, body.expected, noun="event")
    if count and not body.dry_run:
        wanted = RunWanted(
            act=BulkAct.RETRY_EVENTS,
            chosen=row_acts.written(filters),
            shown=replays.described(filters),
            counted=count,
            reason=body.reason,
            actor=call.actor,
        )
        run = carry_out(call, wanted, now=now)
    return EventsRetried(
        dry_run=body.dry_run,
        count=count,
        more=matching > count,
        changed=run.done if run else 0,
        samples=[show(EVENT, event.id) for event in samples],
        run=run,
    )


@endpoint("POST /events/{event_id}/retry", scope=Scope.OPERATOR)
def retry_event(call: Call, event_id: str) -> EventRetried:
    """Process a failed event again, as if it had just arrived. For one that was processed this is a 409."""
    [event] = _named(call, [event_id])
    changed = _retry(call, [event], {}) if event.state == EventState.FAILED else []
    if event.state == EventState.PROCESSED:
        shown = show(EVENT, event.id)
        raise Conflict(f"{shown} was processed: replay gives it to the routes again", found={"state": event.state})
    return EventRetried(id=show(EVENT, event.id), changed=bool(changed))


@endpoint("POST /events/{event_id}/replay", scope=Scope.OPERATOR, problems=(INVALID_INPUT,))
def replay_event(call: Call, event_id: str, body: ReplayWanted) -> Replayed:
    """Route a stored event once more: afterwards each matching route has one job of it.

    An existing job keeps its id. It is delivered again with `again`, or by the routes of then where it was discarded.
    The decisions of then stay as they are.
    """
    event, context, by = identity(EVENT, event_id), call.context, body.routes
    route = None if body.route is None else split_target("route", body.route)
    matching = replays.match(context.database, event, by, context.routes.current(context.database))
    if body.dry_run:
        with context.database.read() as session:
            found = replays.preview(session, matching, again=body.again, route=route)
    else:
        with context.database.write() as session:
            found = replays.replay(
                session, matching, again=body.again, route=route, actor=call.actor, now=context.clock()
            )
        context.hints.of_jobs(found.due)
    return _replayed(found, by, dry_run=body.dry_run)


@endpoint(
    "POST /routes/{team}/{route}/backfill", scope=Scope.OPERATOR, matches_patterns=True, problems=(INVALID_INPUT,)
)
def backfill_route(call: Call, team: str, route: str, body: BackfillWanted) -> Backfilled:
    """Make the jobs of stored events that match a route now and have no job of it.

    They have `"backfill": true`, and become due at a rate per second. A call looks at 20,000 events, for ten seconds at
    most; while `complete` is false, call again with `after`.
    """
    context = call.context
    now = context.clock()
    until = moment(body.until, now=now) if body.until else now
    after = identity(EVENT, body.after) if body.after is not None else None
    with context.database.read() as session:
        live = backfills.live_route(session, team=team, name=route)
    span = Span(moment(body.since, now=now), until, body.newest_first, after)
    found, ends_at = BackfillScan(after=span.after), time.monotonic() + SECONDS
    for so_far in backfills.scan(context.database, live, span, limit=body.limit, at_most=MAX_SCANNED):
        found = so_far
        if time.monotonic() > ends_at:
            break
    made: list[UUID] = []
    if not body.dry_run:
        require_expected(len(found.event_ids), body.expected, noun="event")
        asked = {"since": span.since.isoformat(), "until": until.isoformat(), "limit": body.limit}
        for some in backfills.fill(
            context.database,
            live,
            found,
            per_second=body.per_second,
            asked=asked,
            actor=call.actor,
            clock=context.clock,
        ):
            made += some
    return _backfilled(live, found, made, dry_run=body.dry_run)


def _retry(call: Call, events: Sequence[ChosenEvent], asked: dict[str, Any]) -> list[UUID]:
    changed: list[UUID] = []
    context = call.context
    for some in replays.retry(context.database, events, asked=asked, actor=call.actor, clock=context.clock):
        changed += some
        context.hints.of_events(some)
    return changed


def _named(call: Call, ids: Sequence[str]) -> list[ChosenEvent]:
    """The events with these ids. Raises NotFound for the first unknown one."""
    wanted = list(dict.fromkeys(identity(EVENT, shown) for shown in ids))
    with call.context.database.read() as session:
        found = rows.get_many(session, wanted)
    known = {event.id for event in found}
    for event_id in wanted:
        if event_id not in known:
            raise NotFound("event", show(EVENT, event_id))
    return found


def _filters(call: Call, given: EventFilter) -> EventFilters:
    now = call.context.clock()
    asked = read_search(given.q, now=now)
    return EventFilters(
        failure=given.failure,
        type=given.type,
        origin=given.origin,
        environment=given.environment,
        integration=given.integration,
        connection_id=given.connection_id,
        since=asked.since_also(moment(given.since, now=now) if given.since is not None else None),
        until=asked.until_also(moment(given.until, now=now) if given.until is not None else None),
        q=resolved_search(call, asked.query),
        event_id=asked.event_id,
    )


def resolved_search(call: Call, search: Search) -> str | None:
    """The text of a search with its words resolved; None for one of all events."""
    with call.context.database.read() as session:
        return str(searched_connections.resolved(session, search)) or None


def _replayed(found: Replay, by: Routes, *, dry_run: bool) -> Replayed:
    return Replayed(
        event_id=show(EVENT, found.event_id),
        routes=by,
        route_set=found.route_set,
        untold=found.suppressed,
        dry_run=dry_run,
        steps=[_step(step) for step in found.steps],
    )


def _step(step: Step) -> ReplayedRoute:
    route = step.decision.route
    return ReplayedRoute(
        route=route.name,
        version=route.version,
        team=route.team,
        destination=route.destination,
        outcome=step.outcome,
        job_id=show(JOB, step.job_id) if step.job_id else None,
        why=step.why,
    )


def _backfilled(route: Route, found: BackfillScan, made: Sequence[UUID], *, dry_run: bool) -> Backfilled:
    return Backfilled(
        team=route.team,
        route=route.name,
        dry_run=dry_run,
        looked_at=found.scanned,
        matched=found.matched,
        undecided=found.undecided,
        had_job=found.had_job,
        count=len(found.event_ids),
        made=len(made),
        complete=found.complete,
        after=show(EVENT, found.after) if found.after else None,
        samples=[show(EVENT, event.id) for event in found.samples],
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (retry_events, retry_event, replay_event, backfill_route)
