"""Why an event went where, and where a pattern would have had it go: the judgement itself, given again (promise 9).

Nothing is stored for routes that did not match. They are judged again, from the document that was judged then and the
routes of the set it was judged by, by the same function.

Opens short transactions that only read.
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

from app.db import events as event_rows
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.events import JudgedEvent
from app.db.models import Event
from app.domain.patterns import KEPT, Condition, Pattern, compile_pattern
from app.domain.patterns.fields import unfolded
from app.domain.routing import Decision, explained
from app.domain.shortening import shortened
from app.domain.states import EventState
from app.errors import Conflict, NotFound, TooMuchWork
from app.ids import EVENT, first_id, show
from app.services.routing.cache import each_compiled

SAMPLES: Final = 5  # events shown of each kind
CHUNK: Final = 500  # events of one short read
SHOW_EVERY: Final = 0.1  # seconds
# Characters of JSON: of a value, of the same one shown again, of a condition without its values, of a whole answer.
VALUE: Final = 1_000
AGAIN: Final = 100
ROW: Final = 80
ANSWER: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Explanation:
    """An event with a decision for every route, or for those that were asked for.

    route_set: the one the decisions are of. untold: why the event was not routed, whatever matches it.
    """

    event_id: UUID
    type: str
    route_set: int
    document: dict[str, Any]
    decisions: tuple[Decision, ...]
    untold: str | None
    next_after: str | None = None  # there are more routes, behind this `team/name`


@dataclass(slots=True)
class Trial:
    """What a pattern would have matched among the events that were looked at, newest first.

    With a route to compare with, a match is `gained` or `unchanged`, and `lost` are those the route alone matches.
    undecided are those that it would have taken too much work to judge, or whose document cannot be read. complete:
    all events of the time were looked at. oldest and last: when the last one looked at was received, and its id, behind
    which another trial can go on.
    """

    looked_at: int = 0
    matched: int = 0
    undecided: int = 0
    gained: int = 0
    lost: int = 0
    unchanged: int = 0
    oldest: datetime | None = None
    last: UUID | None = None
    complete: bool = False
    samples: dict[str, list[JudgedEvent]] = field(default_factory=dict)

    def note(self, event: JudgedEvent, pattern: Pattern, against: Pattern | None) -> None:
        self.looked_at += 1
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
class Asked:
    """Which routes are explained: of a team, one of its names alone, those after a team and name, at most so many.

    seconds: after which no other route is begun.
    """

    team: str | None = None
    route: str | None = None
    after: tuple[str, str] | None = None
    limit: int | None = None
    seconds: float | None = None


def explain(database: Database, event_id: UUID, *, now: bool = False, asked: Asked | None = None) -> Explanation:
    """Every route's decision on an event: by the routes of its time, or by those in force now. Judged with no
    transaction open.

    Raises NotFound, also for a route that was asked for, and Conflict for an event that was not judged.
    """
    asked = asked or Asked()
    with database.read() as session:
        event, document, route_set = _judged_event(session, event_id)
        version = route_rows.current_version(session) if now else route_set
        rows = route_rows.of_set(
            session,
            version,
            team=asked.team,
            name=asked.route,
            after=asked.after,
            limit=None if asked.limit is None else asked.limit + 1,
        )
        untold = (event.untold or event.problem) if not now and not job_rows.any_of(session, event_id) else None
    more = asked.limit is not None and len(rows) > asked.limit
    rows = rows[: asked.limit]
    if asked.route is not None and not rows:
        raise no_such_route(f"{asked.team}/{asked.route}", now=now)
    last = (rows[-1].team, rows[-1].name) if rows else None
    next_after = "/".join(last) if last and more else None
    decisions: list[Decision] = []
    ends_at = math.inf if asked.seconds is None else time.monotonic() + asked.seconds
    for decision in explained(each_compiled(rows), document):
        decisions.append(decision)
        if time.monotonic() > ends_at and decision.route.key != last:
            next_after = "/".join(decision.route.key)
            break
    return Explanation(event_id, event.type or "", version, document, tuple(decisions), untold, next_after)


def no_such_route(named: str, *, now: bool) -> NotFound:
    """The same for a route that is not there and for one that is not the caller's."""
    return NotFound("route in force" if now else "route of that time", named)


def shown(found: Explanation, *, now: bool) -> dict[str, Any]:
    """An explanation as people and programs see it."""
    telling = Telling()
    return {
        "event_id": show(EVENT, found.event_id),
        "type": found.type,
        "route_set": found.route_set,
        "by": "now" if now else "then",
        "untold": found.untold,
        "document": found.document,
        "routes": [telling.decision(one) for one in found.decisions],
    }


class Telling:
    """Decisions and conditions as they are shown, all of one answer together within ANSWER.

    Long values are shortened, and a value that was shown in full length before in the same decision is shortened more.
    What there is no room for is counted as `left_out`.
    """

    def __init__(self, most: int = ANSWER) -> None:
        self._room = most
        self._left_out = 0
        self._told: set[tuple[str, bool]] = set()

    def decision(self, one: Decision) -> dict[str, Any]:
        route = one.route
        return {
            "route": route.name,
            "version": route.version,
            "team": route.team,
            "destination": route.destination,
            "job": route.job,
            "enabled": route.enabled,
            "matched": one.matched,
            **self.conditions(one.conditions),
        }

    def conditions(self, several: Sequence[Condition]) -> dict[str, Any]:
        """`conditions`, and where some did not fit, how many were left out."""
        self._left_out, self._told = 0, set()
        shown = self._shown(several)
        return {"conditions": shown, **({"left_out": self._left_out} if self._left_out else {})}

    def _shown(self, several: Sequence[Condition]) -> list[dict[str, Any]]:
        shown = []
        for one in several:
            if self._room > 0:
                shown.append(self._condition(one))
            else:
                self._left_out += _count(one)
        return shown

    def _condition(self, one: Condition) -> dict[str, Any]:
        """`alternatives` are there for a `$or` only: the conditions of each of its options."""
        told = {
            "path": one.path,
            "expected": self._value(one.path, one.expected, expected=True),
            "actual": self._value(one.path, one.actual, expected=False),
            "present": one.present,
            "matched": one.matched,
        }
        self._room -= len(one.path) + ROW
        alternatives = [self._shown(option) for option in one.alternatives]
        return {**told, **({"alternatives": alternatives} if alternatives else {})}

    def _value(self, path: str, value: object, *, expected: bool) -> object:
        again = (path, expected) in self._told
        self._told.add((path, expected))
        shown = shortened(value, AGAIN if again else VALUE)
        self._room -= len(msgspec.json.encode(shown))
        return shown


def _count(one: Condition) -> int:
    return 1 + sum(_count(each) for option in one.alternatives for each in option)


def shown_sample(kind: str, event: JudgedEvent) -> dict[str, Any]:
    """An event of a trial: `kind` is matched, gained or lost."""
    document = event.document or {}
    named = {name: shortened(document.get(name)) for name in ("type", "integration", "connection_id", "tags")}
    return {"sample": kind, "id": show(EVENT, event.id), **named, "received_at": event.received_at.isoformat()}


def document_of(session: Session, event_id: UUID) -> dict[str, Any]:
    """The document of an event as it was judged. Raises NotFound and Conflict."""
    return _judged_event(session, event_id)[1]


def _judged_event(session: Session, event_id: UUID) -> tuple[Event, dict[str, Any], int]:
    """An event with the document and the route set it was judged by. Raises NotFound and Conflict."""
    event = event_rows.get(session, event_id)
    if event is None:
        raise NotFound("event", show(EVENT, event_id))
    if event.document is None or event.route_set is None:
        why = "it waits to be processed" if event.state == EventState.RECEIVED else f"it failed: {event.failure}"
        raise Conflict(f"{show(EVENT, event_id)} was never judged by routes: {why}")
    return event, event.document, event.route_set


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
    at_most: int,
) -> Iterator[Trial]:
    """Judge the stored events of the last `since`, newest first and at most so many; nothing is changed.

    before: go on after the event with this id.

    Yields the one trial several times a second, so that the caller can show it, or stop.
    """
    trial = Trial()
    for chunk in _judged(database, first_id(now - since), before, at_most):
        shown_at = time.monotonic()
        for event in chunk:
            trial.note(event, pattern, against)
            if time.monotonic() - shown_at > SHOW_EVERY:
                yield trial
                shown_at = time.monotonic()
        yield trial
    trial.complete = trial.looked_at < at_most
    yield trial


def _judged(database: Database, since: UUID, before: UUID | None, at_most: int) -> Iterator[list[JudgedEvent]]:
    """In short reads: a long one would keep the database from forgetting old rows."""
    left = at_most
    while left > 0:
        with database.read() as session:
            chunk = event_rows.judged(session, since=since, before=before, limit=min(CHUNK, left))
        if not chunk:
            return
        yield chunk
        left -= len(chunk)
        before = chunk[-1].id
