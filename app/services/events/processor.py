"""Events from received to processed: claim, look up in Nango, apply.

Transactions are short, and none is open while Nango or the application's database is asked.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError, OperationalError

from app.db import events as event_rows
from app.db.connections import ConnectionKey
from app.db.engine import Database
from app.db.errors import has_answered, is_away
from app.db.events import ClaimedEvent
from app.deadlines import BATCH, CONFIRM_DEADLINE, EVENT_LEASE, MAX_CLAIMS
from app.domain.budget import Priority
from app.domain.confirming import LINKING_TYPES, LookupResult, NotAsked, Snapshot, Unavailable
from app.domain.event import unhandled
from app.domain.linking import TagKeys, read_claim
from app.domain.own_event import read_own
from app.domain.routing import RouteSet
from app.domain.scrub import scrub
from app.domain.states import EventState, Origin
from app.domain.stored_bodies import read_at_rest
from app.ids import EVENT, show
from app.services.delivery.loop import DeliveryLoop
from app.services.events.batch import Applied, Batch
from app.services.events.lookups import Lookups, Wanted
from app.services.events.pending_event import NOT_ASKED, PendingEvent
from app.services.events.possibly_poison import PossiblyPoison
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.routing.precomputed_matches import Matches, NotMatchedYet
from app.services.sql_directory import Question, SqlDirectory
from app.telemetry import EVENTS, get_logger

NOT_CONFIGURED_WAIT: Final = 60.0  # seconds; it has to be configured first
# In one transaction on SQLite, which all other writers wait for. Twice as many took a median of 85 ms of CPU, and 200
# where each event brings a new owner; this number takes half of that, at the same cost per event.
SQLITE_BATCH: Final = 100
CLAIMED_BYTES: Final = 8 * 1024 * 1024  # of the bodies that are read at once; what they say takes many times that
BYTES: Final = 1024 * 1024  # of the bodies of one transaction, which writes them and what they say

log = get_logger(__name__)

Sized = TypeVar("Sized", ClaimedEvent, PendingEvent)


@dataclass(slots=True)
class Processor:
    """Processes events in a worker; made once per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    routes: RouteCache = field(default_factory=RouteCache)
    directory: SqlDirectory | None = None  # with the directory policy `sql`
    deliveries: DeliveryLoop | None = None  # sends jobs of direct destinations; None: all jobs wait to be claimed
    _lookups: Lookups = field(default_factory=Lookups, init=False)
    _possibly_poison: PossiblyPoison = field(init=False)

    def __post_init__(self) -> None:
        self._possibly_poison = PossiblyPoison(self.clock)

    def process(self, ids: Collection[UUID], *, limit: int = BATCH) -> Applied:
        """Process the hinted events that are due, and other due ones, up to `limit`.

        An event whose last claim brought no result may have killed its worker: such events are claimed one at a time,
        so that a poison event does not use up the attempts of others.
        """
        done: list[Applied] = []
        more = True
        while more and limit > 0:
            claimed, more = self._claim(ids, limit)
            done.append(self._process(claimed))
            limit -= len(claimed)
        return _sum([*done, *self._possibly_poison.each(self._process_possibly_poison)])

    def _process_possibly_poison(self) -> Applied | None:
        claimed, _ = self._claim((), 1, possibly_poison=True)
        return self._process(claimed) if claimed else None

    def _process(self, claimed: Sequence[ClaimedEvent]) -> Applied:
        if not claimed:
            return Applied()
        pending = [_read(event) for event in claimed]
        self._look_up(pending)
        self._ask_directory(pending)
        routes, most = self.routes.current(self.database), SQLITE_BATCH if self.database.is_sqlite else BATCH
        return _sum([self._apply_or_split(part, routes) for part in _parts(pending, most, BYTES)])

    def _claim(
        self, ids: Collection[UUID], limit: int, *, possibly_poison: bool = False
    ) -> tuple[list[ClaimedEvent], bool]:
        """Up to `limit` events with CLAIMED_BYTES of bodies together, and whether that bound left others unclaimed."""
        with self.database.write(durable=False) as session:
            now = self.clock()
            found = event_rows.claim(
                session, ids, limit=limit, now=now, lease=EVENT_LEASE, possibly_poison=possibly_poison
            )
            claimed = next(_parts(found, limit, CLAIMED_BYTES), [])
            event_rows.release(session, [event.id for event in found[len(claimed) :]], now=now)
            crashed = [event.id for event in claimed if event.attempts > MAX_CLAIMS]
            event_rows.give_up(session, crashed, problem=f"claimed {MAX_CLAIMS} times without a result", now=now)
        for event_id in crashed:
            log.error("event_given_up", event_id=show(EVENT, event_id), failure="crashed")
        alive = [event for event in claimed if event.attempts <= MAX_CLAIMS]
        if large := [event.id for event in alive if event.size and event.body is None]:
            with self.database.read() as session:
                bodies = event_rows.bodies(session, large)
            alive = [replace(event, body=bodies.get(event.id, event.body)) for event in alive]
        return alive, len(claimed) < len(found)

    def _look_up(self, pending: Sequence[PendingEvent]) -> None:
        """Ask each environment's Nango once for all connections of the batch that have something to confirm."""
        ends_at = time.monotonic() + CONFIRM_DEADLINE.total_seconds()
        for environment in sorted({item.event.environment for item in pending}):
            client = self.clients.of(environment, Priority.CONFIRM)
            if client is None and self.clients.knows(environment):
                continue  # without an API key, all of its events are judged by what Nango posted
            mine = [item for item in pending if item.event.environment == environment and item.needs_lookup]
            asking = [(item, item.key) for item in mine if item.key]
            if not asking:
                continue
            if client is None:
                gone = Unavailable("its environment is not configured any more", retry_after=NOT_CONFIGURED_WAIT)
                results: Mapping[ConnectionKey, LookupResult] = {key: gone for _, key in asking}
            else:
                results = self._lookups.look_up(client, environment, _wanted(asking), ends_at=ends_at)
            for item, key in asking:
                item.lookup = results.get(key, NOT_ASKED)

    def _ask_directory(self, pending: Sequence[PendingEvent]) -> None:
        """With the directory policy `sql`: ask the application's database for the owners that the tags name."""
        if self.directory is None:
            return
        asking = [
            item
            for item in pending
            if item.notice.type in LINKING_TYPES and isinstance(item.lookup, Snapshot | NotAsked)
        ]
        answers = self.directory.ask(_question(item, self.policy.tag_keys) for item in asking)
        for item, answer in zip(asking, answers, strict=True):
            item.take_owner_answer(answer)

    def _apply_or_split(self, pending: Sequence[PendingEvent], routes: RouteSet) -> Applied:
        """Apply the events; where that fails, each half in its own transaction, so that poison fails alone."""
        try:
            return self._apply(pending, routes)
        except Exception as problem:
            if is_away(problem) and not has_answered(problem):
                raise  # no event of this batch is the reason; they are due again when their leases end
            if len(pending) == 1:
                return self._fail(pending[0], problem)
            log.exception("batch_failed", events=len(pending), then="each half is tried alone")
        half = len(pending) // 2
        return _sum([self._apply_or_split(part, routes) for part in (pending[:half], pending[half:])])

    def _apply(self, pending: Sequence[PendingEvent], routes: RouteSet) -> Applied:
        matches = Matches(routes)
        raced = False
        while True:
            try:
                applied = self._apply_once(pending, matches)
                break
            except NotMatchedYet:
                matches.prepare()
            except IntegrityError:
                # Another worker created one of the batch's new connections, which can be locked now.
                if raced:
                    raise
                raced = True
        if self.deliveries is not None and applied.claimed:
            self.deliveries.send(applied.claimed)
        for (kind, state), count in applied.outcomes.items():
            EVENTS.labels(kind, state).inc(count)
        return applied

    def _apply_once(self, pending: Sequence[PendingEvent], matches: Matches) -> Applied:
        direct = self.deliveries.direct if self.deliveries is not None else frozenset()
        with self.database.write() as session:
            return Batch.load(session, self.policy, matches, pending, now=self.clock(), direct=direct).apply()

    def _fail(self, pending: PendingEvent, problem: Exception) -> Applied:
        """Mark an event that could not be applied as failed, unless the database is the reason."""
        event_id = show(EVENT, pending.event.id)
        if isinstance(problem, OperationalError):
            # The database, not the event: it stays claimed and is due again when its lease ends.
            log.error("event_left", event_id=event_id, exc_info=problem)
            return Applied()
        trace = scrub("".join(traceback.format_exception(problem)), limit=8000)
        log.error("event_failed", event_id=event_id, problem=trace)
        with self.database.write() as session:
            kind = event_rows.fail(
                session,
                pending.event.id,
                attempts=pending.event.attempts,
                kind=str(pending.notice.type),
                problem=trace,
                now=self.clock(),
            )
        if kind is not None:
            EVENTS.labels(kind, EventState.FAILED).inc()
        return Applied(outcomes=Counter({(kind or "", EventState.FAILED): 1}))


def _read(event: ClaimedEvent) -> PendingEvent:
    """Parse the body by the event's origin: Nango signs any body that it forwards (Nango contract: Forwarded webhooks),
    so that a webhook's is never read in the form of Waylink's own events.
    """
    body = event.body or b""
    if event.origin == Origin.WEBHOOK:
        clean, notice = read_at_rest(body)  # an earlier release may have stored it otherwise than it is stored now
        return PendingEvent(event, notice, scrubbed_body=None if clean == body else clean)
    try:
        own = read_own(body)
    except ValueError as problem:
        log.error("own_event_unreadable", event_id=show(EVENT, event.id), problem=str(problem))
        return PendingEvent(event, unhandled(str(problem)))
    # The lookup that found it is its first. If that did not confirm it, Nango is asked anew.
    first = own.lookup if own.lookup is not None and not event.looks else NOT_ASKED
    return PendingEvent(event, own.notice, lookup=first)


def _wanted(asking: Sequence[tuple[PendingEvent, ConnectionKey]]) -> dict[ConnectionKey, Wanted]:
    """The lookup of each connection. Where two events of the batch name it, only a fresh answer serves both."""
    wanted: dict[ConnectionKey, Wanted] = {}
    for item, key in asking:
        wanted[key] = Wanted(item.event.last_seen_at) if key in wanted else item.wanted
    return wanted


def _parts(events: Sequence[Sized], most: int, most_bytes: int) -> Iterator[list[Sized]]:
    """Parts of up to `most` events in order, with up to `most_bytes` of bodies together, but one event at least."""
    part: list[Sized] = []
    size = 0
    for event in events:
        if part and (len(part) >= most or size + event.size > most_bytes):
            yield part
            part, size = [], 0
        part.append(event)
        size += event.size
    if part:
        yield part


def _question(pending: PendingEvent, keys: TagKeys) -> Question:
    tags, end_user = pending.evidence
    return Question(tags or {}, read_claim(tags or {}, end_user, keys))


def _sum(parts: Sequence[Applied]) -> Applied:
    return Applied(
        [job_id for part in parts for job_id in part.job_ids],
        [job for part in parts for job in part.claimed],
        sum((part.outcomes for part in parts), Counter()),
        sum(part.waiting for part in parts),
    )
