"""Explanations of routing decisions, and trials of patterns on stored events (promise 9).

Nothing is stored for routes that did not match. An explanation evaluates the stored document again, against the routes
of its route set, by the function that routed it.

Opens short, read-only transactions.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy.orm import Session

from app.db import documents
from app.db import events as event_rows
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.events import RoutedEvent
from app.db.models import Event
from app.db.read import searching
from app.domain.patterns import KEPT, Condition, Pattern, compile_pattern
from app.domain.patterns.fields import unfolded
from app.domain.routing import RoutingDecision, explained
from app.domain.shortening import shortened
from app.domain.states import EventState
from app.errors import Conflict, NotFound, TooMuchWork
from app.ids import EVENT, first_id, show
from app.services.routing.cache import each_compiled

SAMPLES: Final = 5  # events of each kind that a trial shows
CHUNK: Final = 500  # events per read
SHOW_EVERY: Final = 0.1  # seconds
# Characters of JSON: of a value, of a repeated value, of a condition without its values, of a whole answer.
VALUE: Final = 1_000
AGAIN: Final = 100
ROW: Final = 80
ANSWER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Explanation:
    """An event with the decision of every selected route.

    route_set: the set of these routes. suppressed: why the event was not routed, or None. next_after: `team/name` of
    the last route, where more follow.
    """

    event_id: UUID
    type: str
    route_set: int
    document: dict[str, Any]
    decisions: tuple[RoutingDecision, ...]
    suppressed: str | None
    next_after: str | None = None


@dataclass(slots=True)
class Trial:
    """Matches of a pattern among the scanned events, newest first.

    Compared with another pattern, a match is `gained` or `unchanged`, and `lost` counts what the other alone matches.
    undecided: events that would take too much work to match, or whose document cannot be read. complete: all events of
    the time were scanned. oldest, last: receipt and id of the last scanned event, after which another trial continues.
    """

    scanned: int = 0
    matched: int = 0
    undecided: int = 0
    gained: int = 0
    lost: int = 0
    unchanged: int = 0
    oldest: datetime | None = None
    last: UUID | None = None
    complete: bool = False
    samples: dict[str, list[RoutedEvent]] = field(default_factory=dict)

    def add(self, event: RoutedEvent, pattern: Pattern, against: Pattern | None) -> None:
        self.scanned += 1
        self.oldest, self.last = event.received_at, event.id
        if event.document is None:
            self.undecided += 1
            return
        fields = unfolded(event.document)
        try:
            matched = pattern.fits(fields)
            before = against.fits(fields) if against is not None else None
        except TooMuchWork:
            self.undecided += 1
            return
        self.matched += matched
        if before is None:
            kind = "matched" if matched else ""
        else:
            self.gained += matched and not before
            self.lost += before and not matched
            self.unchanged += matched and before
            kind = "gained" if matched > before else "lost" if before > matched else ""
        if kind and len(shown := self.samples.setdefault(kind, [])) < SAMPLES:
            shown.append(event)


@dataclass(frozen=True, slots=True)
class RouteSelection:
    """Routes to explain: of a team, of one name, after a (team, name), `limit` at most; None: no restriction.

    seconds: no further route is begun after so long.
    """

    team: str | None = None
    route: str | None = None
    after: tuple[str, str] | None = None
    limit: int | None = None
    seconds: float | None = None


def explain(
    database: Database, event_id: UUID, *, now: bool = False, selection: RouteSelection | None = None
) -> Explanation:
    """Evaluate an event against the routes of its route set, or with `now` those in force, with no transaction open.

    Raises NotFound, also for a selected route, and Conflict for an event that was never routed.
    """
    selection = selection or RouteSelection()
    with database.read() as session:
        event, document, route_set = _routed_event(session, event_id)
        version = route_rows.current_version(session) if now else route_set
        rows = route_rows.of_set(
            session,
            version,
            team=selection.team,
            name=selection.route,
            after=selection.after,
            limit=None if selection.limit is None else selection.limit + 1,
        )
        suppressed = (event.untold or event.problem) if not now and not job_rows.any_of(session, event_id) else None
    more = selection.limit is not None and len(rows) > selection.limit
    rows = rows[: selection.limit]
    if selection.route is not None and not rows:
        raise no_such_route(f"{selection.team}/{selection.route}", now=now)
    last = (rows[-1].team, rows[-1].name) if rows else None
    next_after = "/".join(last) if last and more else None
    decisions: list[RoutingDecision] = []
    ends_at = math.inf if selection.seconds is None else time.monotonic() + selection.seconds
    for decision in explained(each_compiled(rows), document):
        decisions.append(decision)
        if time.monotonic() > ends_at and decision.route.key != last:
            next_after = "/".join(decision.route.key)
            break
    return Explanation(event_id, event.type or "", version, document, tuple(decisions), suppressed, next_after)


def no_such_route(named: str, *, now: bool) -> NotFound:
    """The same error for a missing route and for one of another team: it reveals no names."""
    return NotFound("route in force" if now else "route of that time", named)


def shown(explanation: Explanation, *, now: bool) -> dict[str, Any]:
    """An explanation as the JSON object of the API and the command."""
    renderer = DecisionRenderer()
    return {
        "event_id": show(EVENT, explanation.event_id),
        "type": explanation.type,
        "route_set": explanation.route_set,
        "by": "now" if now else "then",
        "untold": explanation.suppressed,
        "document": explanation.document,
        "routes": [renderer.decision(decision) for decision in explanation.decisions],
    }


class DecisionRenderer:
    """Decisions and conditions as JSON objects, all of one answer together within `most` characters (ANSWER).

    Long values are shortened, and repeated ones of the same decision more so. Conditions without room are counted as
    `left_out`.
    """

    def __init__(self, most: int = ANSWER) -> None:
        self._room = most
        self._left_out = 0
        self._rendered: set[tuple[str, bool]] = set()

    def decision(self, decision: RoutingDecision) -> dict[str, Any]:
        route = decision.route
        return {
            "route": route.name,
            "version": route.version,
            "team": route.team,
            "destination": route.destination,
            "job": route.job,
            "enabled": route.enabled,
            "matched": decision.matched,
            **self.conditions(decision.conditions),
        }

    def conditions(self, conditions: Sequence[Condition]) -> dict[str, Any]:
        """`conditions`, and `left_out`: the count of those without room, where there are any."""
        self._left_out, self._rendered = 0, set()
        shown = self._list(conditions)
        return {"conditions": shown, **({"left_out": self._left_out} if self._left_out else {})}

    def _list(self, conditions: Sequence[Condition]) -> list[dict[str, Any]]:
        shown = []
        for condition in conditions:
            if self._room > 0:
                shown.append(self._condition(condition))
            else:
                self._left_out += _count(condition)
        return shown

    def _condition(self, condition: Condition) -> dict[str, Any]:
        """`alternatives` only of a `$or`: the conditions of each of its options."""
        facts = {
            "path": condition.path,
            "expected": self._value(condition.path, condition.expected, expected=True),
            "actual": self._value(condition.path, condition.actual, expected=False),
            "present": condition.present,
            "matched": condition.matched,
        }
        self._room -= len(condition.path) + ROW
        alternatives = [self._list(option) for option in condition.alternatives]
        return {**facts, **({"alternatives": alternatives} if alternatives else {})}

    def _value(self, path: str, value: object, *, expected: bool) -> object:
        again = (path, expected) in self._rendered
        self._rendered.add((path, expected))
        shown = shortened(value, AGAIN if again else VALUE)
        self._room -= len(msgspec.json.encode(shown))
        return shown


def _count(condition: Condition) -> int:
    return 1 + sum(_count(inner) for option in condition.alternatives for inner in option)


def shown_sample(kind: str, event: RoutedEvent) -> dict[str, Any]:
    """A sample event of a trial as a JSON object; `kind`: matched, gained or lost."""
    document = event.document or {}
    named = {name: shortened(document.get(name)) for name in ("type", "integration", "connection_id", "tags")}
    return {"sample": kind, "id": show(EVENT, event.id), **named, "received_at": event.received_at.isoformat()}


def document_of(session: Session, event_id: UUID) -> dict[str, Any]:
    """The stored document of a routed event. Raises NotFound and Conflict."""
    return _routed_event(session, event_id)[1]


def _routed_event(session: Session, event_id: UUID) -> tuple[Event, dict[str, Any], int]:
    """An event with its stored document and its route set. Raises NotFound and Conflict."""
    event = event_rows.get(session, event_id)
    if event is None:
        raise NotFound("event", show(EVENT, event_id))
    document = documents.of(session, event)
    if document is None or event.route_set is None:
        why = f"it failed: {event.failure}" if event.state == EventState.FAILED else documents.why_none(event)
        raise Conflict(f"{show(EVENT, event_id)} was never judged by routes: {why}")
    return event, document, event.route_set


def pattern_of(session: Session, *, team: str, name: str) -> Pattern:
    """The pattern of a route's newest version. Raises NotFound and InvalidPattern."""
    versions = route_rows.versions(session, team=team, name=name)
    if not versions:
        raise NotFound("route", f"{team}/{name}")
    return compile_pattern(versions[0].pattern, KEPT)


def try_on_history(
    database: Database,
    pattern: Pattern,
    *,
    now: datetime,
    since: timedelta,
    against: Pattern | None = None,
    before: UUID | None = None,
    team: str | None = None,
    at_most: int,
) -> Iterator[Trial]:
    """Match the stored events of the last `since`, newest first, `at_most` of them; nothing is changed.

    before: id of an earlier trial's last event, to continue there. team: only events that became jobs of this team,
    among the newest `searching.AT_MOST` before that.

    Yields the same, growing trial several times a second, for the caller to show progress or to stop.
    """
    trial = Trial()
    begin = first_id(now - since)
    if team is not None:
        with database.read() as session:
            begin = max(
                begin, searching.end_of_search(session, Event.id, before=before, rows=searching.AT_MOST) or begin
            )
    for chunk in _chunks(database, begin, before, at_most, team):
        shown_at = time.monotonic()
        for event in chunk:
            trial.add(event, pattern, against)
            if time.monotonic() - shown_at > SHOW_EVERY:
                yield trial
                shown_at = time.monotonic()
        yield trial
    trial.complete = trial.scanned < at_most
    yield trial


def _chunks(
    database: Database, since: UUID, before: UUID | None, at_most: int, team: str | None
) -> Iterator[list[RoutedEvent]]:
    """Routed events in short reads: a long transaction would keep PostgreSQL from vacuuming old rows."""
    left = at_most
    while left > 0:
        with database.read() as session:
            chunk = event_rows.routed(session, since=since, before=before, limit=min(CHUNK, left), team=team)
        if not chunk:
            return
        yield chunk
        left -= len(chunk)
        before = chunk[-1].id
