"""Why an event went where, and where a pattern would have had it go: the judgement itself, given again (promise 9).

Nothing is stored for routes that did not match. They are judged again, from the document that was judged then and the
routes of the set it was judged by, by the same function.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import events as event_rows
from app.db import jobs as job_rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.events import JudgedEvent
from app.db.models import Event
from app.domain.patterns import Condition, Pattern, compile_pattern
from app.domain.routing import Decision
from app.domain.states import EventState
from app.errors import Conflict, NotFound
from app.ids import EVENT, first_id, show
from app.services.route_cache import compiled

SAMPLES: Final = 5  # events shown of each kind
CHUNK: Final = 500  # events of one short read


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
    next_after: str | None = None  # there are more routes, behind this name


@dataclass(slots=True)
class Trial:
    """What a pattern would have matched among the events that were looked at, newest first.

    With a route to compare with, a match is `gained` or `unchanged`, and `lost` are those the route alone matches.
    complete: all events of the time were looked at. oldest and last: when the last one looked at was received, and
    its id, behind which another trial can go on.
    """

    looked_at: int = 0
    matched: int = 0
    gained: int = 0
    lost: int = 0
    unchanged: int = 0
    oldest: datetime | None = None
    last: UUID | None = None
    complete: bool = False
    samples: dict[str, list[JudgedEvent]] = field(default_factory=dict)

    def note(self, event: JudgedEvent, *, matched: bool, before: bool | None) -> None:
        self.looked_at += 1
        self.matched += matched
        self.oldest, self.last = event.received_at, event.id
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
    """Which routes are explained, by name: of a team, one alone, those after a name, and at most so many."""

    team: str | None = None
    route: str | None = None
    after: str | None = None
    limit: int | None = None


def explain(session: Session, event_id: UUID, *, now: bool = False, asked: Asked | None = None) -> Explanation:
    """Every route's decision on an event: by the routes of its time, or by those in force now.

    Raises NotFound, also for a route that was asked for, and Conflict for an event that was not judged.
    """
    asked = asked or Asked()
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
    next_after = rows[asked.limit - 1].name if asked.limit is not None and len(rows) > asked.limit else None
    rows = rows[: asked.limit]
    if asked.route is not None and not rows:
        raise NotFound("route of that time" if not now else "route in force", asked.route)
    decisions = tuple(compiled(version, rows).explain(document))
    untold = (event.untold or event.problem) if not now and not job_rows.any_of(session, event_id) else None
    return Explanation(event_id, event.type or "", version, document, decisions, untold, next_after)


def shown(found: Explanation, *, now: bool) -> dict[str, Any]:
    """An explanation as people and programs see it."""
    return {
        "event_id": show(EVENT, found.event_id),
        "type": found.type,
        "route_set": found.route_set,
        "by": "now" if now else "then",
        "untold": found.untold,
        "document": found.document,
        "routes": [shown_decision(one) for one in found.decisions],
    }


def shown_decision(one: Decision) -> dict[str, Any]:
    route = one.route
    return {
        "route": route.name,
        "version": route.version,
        "team": route.team,
        "destination": route.destination,
        "job": route.job,
        "enabled": route.enabled,
        "matched": one.matched,
        "conditions": [shown_condition(each) for each in one.conditions],
    }


def shown_condition(one: Condition) -> dict[str, Any]:
    """`alternatives` are there for a `$or` only: the conditions of each of its options."""
    told = {"path": one.path, "expected": one.expected, "actual": one.actual, "present": one.present}
    alternatives = [[shown_condition(each) for each in option] for option in one.alternatives]
    return {**told, "matched": one.matched, **({"alternatives": alternatives} if alternatives else {})}


def shown_sample(kind: str, event: JudgedEvent) -> dict[str, Any]:
    """An event of a trial: `kind` is matched, gained or lost."""
    named = {name: event.document.get(name) for name in ("type", "integration", "connection_id", "tags")}
    return {"sample": kind, "id": show(EVENT, event.id), **named, "received_at": event.received_at.isoformat()}


def document_of(session: Session, event_id: UUID) -> dict[str, Any]:
    """The document of an event as it was judged. Raises NotFound and Conflict."""
    return _judged_event(session, event_id)[1]


def _judged_event(session: Session, event_id: UUID) -> tuple[Event, dict[str, Any], int]:
    """An event with the document and the route set it was judged by. Raises NotFound and Conflict."""
    event = session.get(Event, event_id)
    if event is None:
        raise NotFound("event", show(EVENT, event_id))
    if event.document is None or event.route_set is None:
        why = "it waits to be processed" if event.state == EventState.RECEIVED else f"it failed: {event.failure}"
        raise Conflict(f"{show(EVENT, event_id)} was never judged by routes: {why}")
    return event, event.document, event.route_set


def pattern_of(session: Session, route: str) -> Pattern:
    """The pattern of a route's newest version. Raises NotFound and InvalidPattern."""
    versions = route_rows.versions(session, route)
    if not versions:
        raise NotFound("route", route)
    return compile_pattern(versions[0].pattern)


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

    Yields the one trial after each chunk, so that whoever asks can show it, or stop.
    """
    trial = Trial()
    for chunk in _judged(database, first_id(now - since), before, at_most):
        for event in chunk:
            then = against.matches(event.document) if against is not None else None
            trial.note(event, matched=pattern.matches(event.document), before=then)
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
