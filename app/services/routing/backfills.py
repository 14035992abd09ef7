"""Backfill: make a route's jobs for stored events that match it and have none.

Events are scanned first, newest or oldest first, in short reads. Then jobs are made for the matching ones, a chunk per
transaction. A repeated backfill continues: it skips events that have their job.
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
from app.domain.routing import ANNOUNCED_BEFORE, KNOWN_BEFORE, Route, RoutingDecision
from app.errors import Conflict, NotFound, TooMuchWork
from app.ids import first_id
from app.services.bulk_actions import Audited, in_chunks
from app.services.routing.cache import compiled
from app.services.routing.router import job_row

CHUNK: Final = 500  # events per read
SHOW_EVERY: Final = 0.1  # seconds
FILLED: Final = 50  # events per transaction at most: it reads their documents again
MAX_JOBS: Final = 100_000  # per backfill
SAMPLES: Final = 5
PER_SECOND: Final = 20.0  # jobs that become due: leaves room for those of new events
_SUPPRESSED: Final = (ANNOUNCED_BEFORE, KNOWN_BEFORE)


@dataclass(slots=True)
class BackfillScan:
    """The result of a scan so far.

    undecided: events that would take too much work to match, or whose document cannot be read. complete: all events of
    the span were scanned. after: id of the last scanned event.
    """

    scanned: int = 0
    matched: int = 0
    undecided: int = 0
    had_job: int = 0
    event_ids: list[UUID] = field(default_factory=list)
    samples: list[HistoricEvent] = field(default_factory=list)
    after: UUID | None = None
    complete: bool = False

    def add(self, event: HistoricEvent, route: Route) -> None:
        self.scanned += 1
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
    """Events to scan: received in [since, until); `after` is the id of the last event of an earlier scan, or None."""

    since: datetime
    until: datetime
    newest_first: bool = False
    after: UUID | None = None

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """The span as event ids [first, end): ids are in the order of receipt."""
        first, end = first_id(self.since), first_id(self.until)
        if self.after is None:
            return first, end
        return (first, min(end, self.after)) if self.newest_first else (max(first, UUID(int=self.after.int + 1)), end)


def live_route(session: Session, *, team: str, name: str) -> Route:
    """The route in force. Raises NotFound; Conflict where it is disabled or its pattern is refused."""
    row = None if wrong_name(team) or wrong_name(name) else route_rows.live_route(session, team=team, name=name)
    if row is None:
        raise NotFound("route", f"{team}/{name}")
    return _usable(row)


def scan(
    database: Database, route: Route, span: Span, *, limit: int, at_most: int | None = None
) -> Iterator[BackfillScan]:
    """Scan for matching events without a job of the route, until `limit` are found or `at_most` are scanned.

    Yields the same, growing result several times a second, for the caller to show progress or to stop.
    """
    result = BackfillScan(after=span.after)
    shown_at = time.monotonic()
    since, until = span.ids
    while True:
        size = CHUNK if at_most is None else min(CHUNK, at_most - result.scanned)
        with database.read() as session:
            chunk = rows.history(
                session,
                team=route.team,
                route=route.name,
                since=since,
                until=until,
                newest_first=span.newest_first,
                suppressed=_SUPPRESSED,
                limit=size,
            )
        for event in chunk:
            if len(result.event_ids) >= limit:
                break
            result.add(event, route)
            if time.monotonic() - shown_at > SHOW_EVERY:
                yield result
                shown_at = time.monotonic()
        is_full = len(result.event_ids) >= limit
        result.complete = not is_full and not chunk
        if is_full or not chunk or result.scanned == at_most:
            yield result
            return
        yield result
        last = chunk[-1].id
        since, until = (since, last) if span.newest_first else (UUID(int=last.int + 1), until)


def fill(
    database: Database,
    route: Route,
    scanned: BackfillScan,
    *,
    per_second: float,
    asked: Mapping[str, Any],
    actor: str,
    clock: Callable[[], datetime],
) -> Generator[list[UUID], None, None]:
    """Make the jobs of the scanned events, `per_second` of which become due; yields each chunk's ids after its commit.

    Raises Conflict where the route changed since the scan: committed jobs stay.
    """
    filler = _Filler(route, timedelta(seconds=1 / per_second))
    audited = Audited(actor, "route.backfilled", f"{route.team}/{route.name}", asked)
    return in_chunks(
        database,
        scanned.event_ids,
        filler.make_jobs,
        audited,
        clock=clock,
        size=FILLED,
        ready=partial(filler.match, database),
    )


@dataclass(slots=True)
class _Filler:
    route: Route
    apart: timedelta
    _next_at: datetime | None = None
    _matched: dict[UUID, tuple[str, tuple[Condition, ...]]] = field(default_factory=dict)

    def match(self, database: Database, ids: Sequence[UUID]) -> int:
        """Match as many of these events as fit into one read, with no transaction open. Returns their count."""
        with database.read() as session:
            texts = rows.texts(session, ids, newest_first=ids[0] > ids[-1])
        self._matched = {}
        for event_id, text in texts.items():
            conditions = _conditions(self.route, text)
            if conditions is not None:
                self._matched[event_id] = text, conditions
        last = next(reversed(texts), ids[-1])
        return ids.index(last) + 1

    def make_jobs(self, session: Session, ids: Any, now: datetime) -> list[UUID]:
        """Make the jobs of the matched events. Returns their ids."""
        route = live_route(session, team=self.route.team, name=self.route.name)
        if route.version != self.route.version:
            named, found = "/".join(route.key), {"version": route.version}
            raise Conflict(f"route {named!r} changed meanwhile: look again", found=found)
        texts = rows.documents_to_fill(session, ids, team=route.team, route=route.name, suppressed=_SUPPRESSED)
        matched = self._matched
        # A document that changed since it was matched, as by an erasure, is left for the next backfill.
        wanted = [event_id for event_id in ids if event_id in matched and matched[event_id][0] == texts.get(event_id)]
        due = self._spread(session, len(wanted), now)
        jobs = [
            job_row(event_id, RoutingDecision(route, True, matched[event_id][1]), now=now)
            | {"next_at": due_at, "backfill": True}
            for event_id, due_at in zip(wanted, due, strict=True)
        ]
        return rows.add_jobs(session, jobs)

    def _spread(self, session: Session, count: int, now: datetime) -> list[datetime]:
        """Due times of `count` jobs, after those of an earlier backfill to the same destination."""
        if self._next_at is None:
            last = rows.last_backfill_due(session, self.route.team, self.route.destination)
            self._next_at = max(now, last + self.apart) if last else now
        start = self._next_at
        self._next_at = start + count * self.apart
        return [start + place * self.apart for place in range(count)]


def _conditions(route: Route, text: str) -> tuple[Condition, ...] | None:
    """The conditions by which the route takes a document; None where it does not, or no decision is possible."""
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
