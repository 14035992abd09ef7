"""Endpoints that explain an event's routing and try patterns. Nothing is changed."""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from msgspec import Meta, Struct, field

from app.config.durations import duration
from app.db.read import listing
from app.domain.access import Scope
from app.domain.patterns import KEPT, Pattern, compile_pattern
from app.domain.tags import in_lower_case
from app.errors import FieldFault, InvalidFields, InvalidInput
from app.ids import EVENT, show
from app.qualified_names import split_target, within
from app.services.definitions import routes
from app.services.definitions.editor import Editor
from app.services.routing.explanations import (
    DecisionRenderer,
    RouteSelection,
    Trial,
    document_of,
    explain,
    no_such_route,
    shown,
    shown_sample,
    try_on_history,
)
from app.web.api.definition_shapes import Pattern as GivenPattern
from app.web.api.endpoint import MAX_LIMIT, Call, Endpoint, endpoint, record
from app.web.api.problems import CONFLICT, FORBIDDEN, INVALID_INPUT, ApiRefusal
from app.web.api.reading import after, identity, not_a_cursor

SECONDS: Final = 3.0  # of one call over history: its pool has few threads
MAX_EVENTS: Final = 100_000
LONGEST: Final = timedelta(days=3650)


class ExplainQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    now: Annotated[bool, Meta(description="By the routes in force now, instead of those of its time.")] = False
    route: Annotated[str | None, Meta(description="This route alone, `TEAM/NAME`.")] = None
    team: Annotated[str | None, Meta(description="The routes of this team.")] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="Routes at most.")] = 50
    cursor: Annotated[str, Meta(description="`next_cursor` of the answer before.", min_length=1)] | None = None


class ConditionRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One condition of a pattern. `actual` is null with `present` false where the document lacks the field. For a
    `$or`, `actual` has the positions of the options that hold, and `alternatives` the conditions of each. Of a long
    value the beginning and the length are shown.
    """

    path: str
    expected: Any
    actual: Any
    present: bool
    matched: bool
    alternatives: list[list["ConditionRow"]] = field(default_factory=list)


class RouteDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whether a route matched the event. A disabled one never does, whatever its conditions say. `left_out`: the number
    of conditions that this answer has no room for; ask for the route alone.
    """

    route: str
    version: int
    team: str
    destination: str
    job: str
    enabled: bool
    matched: bool
    conditions: list[ConditionRow]
    left_out: int = 0


class EventExplanation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Decisions by team and name of the route, by the routes of the event's time (`then`) or of `now`. `untold`: why it
    was not routed, whatever matches it.
    """

    event_id: str
    type: str
    route_set: int
    by: str
    untold: str | None
    document: dict[str, Any]
    routes: list[RouteDecision]
    next_cursor: str | None


class PatternTrial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pattern, and one of: `document`, `event` (an `evt_…` id), `since` (a duration such as `7d`).

    With `since`: `against` names a route to compare with, as `TEAM/NAME`, `limit` bounds the events of one call, and
    `cursor` goes on where another call ended. `own`: only events that became jobs of the
    caller's team, among the newest 50,000.
    """

    pattern: GivenPattern
    document: dict[str, Any] | None = None
    event: str | None = None
    since: str | None = None
    against: str | None = None
    own: bool = False
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS)] = 10_000
    cursor: str | None = None


class Sample(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event that is matched, or gained or lost against a route."""

    sample: str
    id: str
    type: Any
    integration: Any
    connection_id: Any
    tags: Any
    received_at: str


class History(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Matches among the events looked at, newest first. `complete`: all of the time; otherwise `next_cursor` continues
    behind the `oldest`, and the counts of both calls add up. `undecided`: events whose match would have taken too much
    work.
    """

    looked_at: int
    matched: int
    undecided: int
    gained: int
    lost: int
    unchanged: int
    oldest: str | None
    complete: bool
    next_cursor: str | None
    samples: list[Sample]


class TrialAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`matched`: whether the document or any stored event matches. `conditions` are of the document, `history` of
    stored events. `left_out`: the number of conditions that the answer has no room for.
    """

    matched: bool
    conditions: list[ConditionRow] | None
    history: History | None
    left_out: int = 0


@endpoint(
    "GET /events/{event_id}/explain",
    scope=Scope.VIEWER,
    teams=True,
    matches_patterns=True,
    problems=(CONFLICT, INVALID_INPUT),
)
def explain_event(call: Call, event_id: str, query: ExplainQuery) -> EventExplanation:
    """Explain why each route matched an event or did not: every condition with its expected and actual value.

    The decision is repeated from the stored document and the routes of that time. A team's token sees its own routes,
    for events that became jobs of that team. Routes are explained for some seconds at most; `next_cursor` continues.
    """
    wanted = _visible(call, event_id)
    team, route = within(query.team, "route", query.route)
    if route is not None and call.team not in {None, team}:
        raise no_such_route(f"{team}/{route}", now=query.now)
    behind = None if query.cursor is None else _behind(query.cursor)
    selection = RouteSelection(team=call.team or team, route=route, after=behind, limit=query.limit, seconds=SECONDS)
    found = explain(call.context.database, wanted, now=query.now, selection=selection)
    return record(shown(found, now=query.now) | {"next_cursor": found.next_after}, EventExplanation)


@endpoint("POST /routes/test", scope=Scope.VIEWER, teams=True, matches_patterns=True)
def try_pattern(call: Call, body: PatternTrial) -> TrialAnswer:
    """Try a pattern before it is a route: on a document, on a stored event, or on all of the last days.

    History is read for some seconds at most; `next_cursor` continues. A team's token may try history with the scope
    operator, which could make a route of the pattern anyway.
    """
    _check(body)
    pattern = compile_pattern(body.pattern)
    if body.since is not None:
        history = _on_history(call, pattern, body, body.since)
        return TrialAnswer(matched=history.matched > 0, conditions=None, history=history)
    conditions = pattern.explain(_document(call, body))
    told = DecisionRenderer().conditions(conditions)
    rows = [record(condition, ConditionRow) for condition in told["conditions"]]
    matched = all(condition.matched for condition in conditions)
    return TrialAnswer(matched=matched, conditions=rows, left_out=told.get("left_out", 0), history=None)


def _behind(cursor: str) -> tuple[str, str]:
    """Team and name in the cursor. Raises Refusal."""
    try:
        return split_target("route", cursor)
    except InvalidInput:
        raise not_a_cursor() from None


def _check(body: PatternTrial) -> None:
    """Raises InvalidFields where fields contradict each other."""
    if sum(source is not None for source in (body.document, body.event, body.since)) != 1:
        raise InvalidFields([FieldFault("since", "one_of", "give one of document, event and since")])
    alone = [name for name in ("against", "cursor") if getattr(body, name) is not None and body.since is None]
    if alone:
        raise InvalidFields([FieldFault(name, "goes_with", "goes with since") for name in alone])


def _document(call: Call, body: PatternTrial) -> Mapping[str, Any]:
    if body.document is not None:
        return in_lower_case(body.document)
    wanted = _visible(call, body.event or "")
    with call.context.database.read() as session:
        return document_of(session, wanted)


def _visible(call: Call, event_id: str) -> UUID:
    """Our id of an event that the caller may see. Raises NotFound."""
    wanted = identity(EVENT, event_id)
    if call.team is not None:
        with call.context.database.read() as session:
            listing.event(session, wanted, team=call.team)
    return wanted


def _on_history(call: Call, pattern: Pattern, body: PatternTrial, since: str) -> History:
    if not call.access.allows(Scope.OPERATOR, teams=True) and call.team is not None:
        raise ApiRefusal(FORBIDDEN, "Trying a pattern on history needs a team's token with the scope `operator`.")
    past = _duration(since)
    context = call.context
    with context.database.read() as session:
        against = _compared_with(call, session, body.against)
    trial, ends_at = Trial(), time.monotonic() + SECONDS
    trials = try_on_history(
        context.database,
        pattern,
        now=context.clock(),
        since=past,
        against=against,
        before=after(EVENT, body.cursor),
        team=call.team if body.own else None,
        at_most=body.limit,
    )
    for so_far in trials:
        trial = so_far
        if time.monotonic() > ends_at:
            break
    return _history(trial)


def _compared_with(call: Call, session: Any, route: str | None) -> Pattern | None:
    if route is None:
        return None
    team, name = split_target("route", route)
    found = routes.get(session, team=team, name=name, editor=Editor(call.actor, call.team))
    return compile_pattern(found.pattern, KEPT)


def _history(trial: Trial) -> History:
    samples = [shown_sample(kind, event) for kind, events in sorted(trial.samples.items()) for event in events]
    return History(
        looked_at=trial.scanned,
        matched=trial.matched,
        undecided=trial.undecided,
        gained=trial.gained,
        lost=trial.lost,
        unchanged=trial.unchanged,
        oldest=trial.oldest.isoformat() if trial.oldest else None,
        complete=trial.complete,
        next_cursor=show(EVENT, trial.last) if trial.last and not trial.complete else None,
        samples=[record(sample, Sample) for sample in samples],
    )


def _duration(text: str) -> timedelta:
    try:
        return min(duration(text), LONGEST)
    except ValueError as wrong:
        raise InvalidFields([FieldFault("since", "duration", str(wrong))]) from None


ENDPOINTS: Final[tuple[Endpoint, ...]] = (explain_event, try_pattern)
