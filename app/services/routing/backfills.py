"""Give a route the jobs of its history: stored events that match it now and have no job of it.

First they are looked for, newest or oldest first, in short reads; then jobs are made for those that were found, a chunk
per transaction. Run again, it goes on where it ended: an event that has its job is not taken again.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy.orm import Session

from app.db import event_actions as rows
from app.db import routes as route_rows
from app.db.engine import Database
from app.db.event_actions import HistoricEvent
from app.db.models import RouteVersion
from app.domain.definitions import wrong_name
from app.domain.patterns import Condition
from app.domain.routing import ANNOUNCED_BEFORE, KNOWN_BEFORE, Decision, Route
from app.errors import Conflict, NotFound, TooMuchWork
from app.ids import first_id
from app.services.bulk_actions import Audited, in_chunks
from app.services.routing.cache import compiled
from app.services.routing.router import decision_row, job_row

CHUNK: Final = 500  # events of one short read
SHOW_EVERY: Final = 0.1  # seconds
FILLED: Final = 50  # events of one transaction at most: their documents are read within it
MAX_JOBS: Final = 100_000  # of one backfill
SAMPLES: Final = 5
PER_SECOND: Final = 20.0  # jobs that become due: live ones have to find room between them
_UNTOLD: Final = (ANNOUNCED_BEFORE, KNOWN_BEFORE)


@dataclass(slots=True)
class Found:
    """What was found so far. `complete`: all events of the time were looked at. `after`: the last one looked at.
    undecided: those that it would have taken too much work to judge, or whose document cannot be read.
    """

    looked_at: int = 0
    matched: int = 0
    undecided: int = 0
    had_job: int = 0
    event_ids: list[UUID] = field(default_factory=list)
    samples: list[HistoricEvent] = field(default_factory=list)
    after: UUID | None = None
    complete: bool = False

    def note(self, event: HistoricEvent, route: Route) -> None:
        self.looked_at += 1
        self.after = event.id
        if event.document is None:
            self.undecided += 1
            return
        try:
            matched = route.taken(event.document) is not None
        except TooMuchWork:
            self.undecided += 1
            return
        self.matched += matched
        self.had_job += matched and event.has_job
        if matched and not event.has_job:
            self.event_ids.append(event.id)
            if len(self.samples) < SAMPLES:
                self.samples.append(event)


@dataclass(frozen=True, slots=True)
class Span:
    """Which events are looked at: received from `since` up to, not including, `until`; after `after`, to go on."""

    since: datetime
    until: datetime
    newest_first: bool = False
    after: UUID | None = None

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """Ids are in the order of receipt: the first one, and the one behind the last."""
        first, end = first_id(self.since), first_id(self.until)
        if self.after is None:
            return first, end
        return (first, min(end, self.after)) if self.newest_first else (max(first, UUID(int=self.after.int + 1)), end)


def live_route(session: Session, *, team: str, name: str) -> Route:
    """The route in force. Raises NotFound, and Conflict for one that is off or whose pattern is refused."""
    row = None if wrong_name(team) or wrong_name(name) else route_rows.live_route(session, team=team, name=name)
    if row is None:
        raise NotFound("route", f"{team}/{name}")
    return _usable(row)


def scan(database: Database, route: Route, span: Span, *, limit: int, at_most: int | None = None) -> Iterator[Found]:
    """Look for events that the route has no job of, until there are `limit`, or `at_most` were looked at.

    Yields the one result several times a second, so that the caller can show it, or stop.
    """
    found = Found(after=span.after)
    shown_at = time.monotonic()
    since, until = span.ids
    while True:
        size = CHUNK if at_most is None else min(CHUNK, at_most - found.looked_at)
        with database.read() as session:
            chunk = rows.history(
                session,
                team=route.team,
                route=route.name,
                since=since,
                until=until,
                newest_first=span.newest_first,
                untold=_UNTOLD,
                limit=size,
            )
        for event in chunk:
            if len(found.event_ids) >= limit:
                break
            found.note(event, route)
            if time.monotonic() - shown_at > SHOW_EVERY:
                yield found
                shown_at = time.monotonic()
        is_full = len(found.event_ids) >= limit
        found.complete = not is_full and not chunk
        if is_full or not chunk or found.looked_at == at_most:
            yield found
            return
        yield found
        last = chunk[-1].id
        since, until = (since, last) if span.newest_first else (UUID(int=last.int + 1), until)


def fill(
    database: Database,
    route: Route,
    found: Found,
    *,
    per_second: float,
    asked: Mapping[str, Any],
    actor: str,
    clock: Callable[[], datetime],
) -> Generator[list[UUID], None, None]:
    """Make the jobs, and yield them chunk by chunk, each after its commit. They become due so many per second.

    Raises Conflict where the route changes meanwhile: what was made stands.
    """
    filler = _Filler(route, timedelta(seconds=1 / per_second))
    audited = Audited(actor, "route.backfilled", f"{route.team}/{route.name}", asked)
    return in_chunks(
        database, found.event_ids, filler.take, audited, clock=clock, size=FILLED, ready=partial(filler.match, database)
    )


@dataclass(slots=True)
class _Filler:
    route: Route
    apart: timedelta
    _next_at: datetime | None = None
    _judged: dict[UUID, tuple[str, tuple[Condition, ...]]] = field(default_factory=dict)

    def match(self, database: Database, ids: Sequence[UUID]) -> int:
        """Judge the next of these events, with no transaction open; how many that were."""
        with database.read() as session:
            texts = rows.documents(session, ids, newest_first=ids[0] > ids[-1])
        self._judged = {}
        for event_id, text in texts.items():
            conditions = _conditions(self.route, text)
            if conditions is not None:
                self._judged[event_id] = text, conditions
        last = next(reversed(texts), ids[-1])
        return ids.index(last) + 1

    def take(self, session: Session, ids: Any, now: datetime) -> list[UUID]:
        """The jobs that were made for these events."""
        route = live_route(session, team=self.route.team, name=self.route.name)
        if route.version != self.route.version:
            named, found = "/".join(route.key), {"version": route.version}
            raise Conflict(f"route {named!r} changed meanwhile: look again", found=found)
        texts = rows.documents_to_fill(session, ids, team=route.team, route=route.name, untold=_UNTOLD)
        judged = self._judged
        # A document that changed since it was judged, as by an erasure, is left for the next run.
        wanted = [one for one in ids if one in texts and one in judged and judged[one][0] == texts[one]]
        decisions = [decision_row(one, Decision(route, True, judged[one][1]), now=now) for one in wanted]
        due = self._spread(session, len(wanted), now)
        jobs = [
            job_row(one, route, now=now) | {"next_at": at, "backfill": True}
            for one, at in zip(wanted, due, strict=True)
        ]
        return rows.add_jobs(session, decisions, jobs)

    def _spread(self, session: Session, count: int, now: datetime) -> list[datetime]:
        """When each becomes due: behind those of an earlier backfill to the same destination."""
        if self._next_at is None:
            last = rows.last_backfill_due(session, self.route.team, self.route.destination)
            self._next_at = max(now, last + self.apart) if last else now
        start = self._next_at
        self._next_at = start + count * self.apart
        return [start + place * self.apart for place in range(count)]


def _conditions(route: Route, text: str) -> tuple[Condition, ...] | None:
    """By what the route takes a document; None where it does not, or that cannot be said."""
    try:
        return route.taken(msgspec.json.decode(text)) if text else None
    except (TooMuchWork, msgspec.DecodeError, RecursionError):
        return None


def _usable(row: RouteVersion) -> Route:
    named = f"{row.team}/{row.name}"
    if not row.enabled:
        raise Conflict(f"route {named!r} is disabled: enable it first", found={"enabled": False})
    routes = compiled(0, [row]).routes
    if not routes:
        raise Conflict(f"route {named!r} has a pattern that this release refuses")
    return routes[0]
