"""Events from received to processed: claim, look up in Nango, apply.

Transactions are short, and none is open while Nango or the application's database is asked.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError, OperationalError

from app.db import events as event_rows
from app.db.connections import ConnectionKey
from app.db.engine import Database
from app.db.errors import has_answered, is_away
from app.db.event_claims import ClaimedEvent
from app.deadlines import CONFIRM_DEADLINE, EVENT_BATCH
from app.domain import canary
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
from app.services.events import stage_lines
from app.services.events.batch import Applied, Batch
from app.services.events.claiming import ClaimedBatch, Claims, LeaseLost, parts
from app.services.events.current_events import EventsChanged
from app.services.events.lookups import Lookups, Wanted
from app.services.events.pending_event import NOT_ASKED, PendingEvent
from app.services.events.possibly_poison import PossiblyPoison
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.routing.precomputed_matches import Matches, NotMatchedYet
from app.services.sql_directory import Question, SqlDirectory
from app.telemetry import BATCH_SIZES, EVENTS, get_logger, trace_of

if TYPE_CHECKING:
    from app.traces.events import Applying, EventSpans

NOT_CONFIGURED_WAIT: Final = 60.0  # seconds; it has to be configured first
# In one transaction on SQLite, which all other writers wait for. Twice as many took a median of 85 ms of CPU, and 200
# where each event brings a new owner; this number takes half of that, at the same cost per event.
SQLITE_BATCH: Final = 100
BYTES: Final = 1024 * 1024  # of the bodies of one transaction, which writes them and what they say
_NO_SPANS: Final = nullcontext()

log = get_logger(__name__)


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
    spans: "EventSpans | None" = None  # None: traces are off
    _lookups: Lookups = field(default_factory=Lookups, init=False)
    _claims: Claims = field(init=False)
    _possibly_poison: PossiblyPoison = field(init=False)

    def __post_init__(self) -> None:
        self._claims = Claims(self.database, self.clock)
        self._possibly_poison = PossiblyPoison(self.clock)

    def process(self, *, limit: int = EVENT_BATCH) -> Applied:
        """Process due events, up to `limit`, and then those whose last claim brought no result.

        These may have killed their worker: they are claimed in groups of their own, so that a poison event does not
        use up the attempts of others.
        """
        done: list[Applied] = []
        more = True
        while more and limit > 0:
            batch = self._claims.take(limit)
            done.append(self._process(batch))
            limit, more = limit - len(batch.events), batch.more
        return _sum([*done, *self._possibly_poison.each(self._process_possibly_poison)])

    def _process_possibly_poison(self) -> Applied | None:
        batch = self._claims.take_possibly_poison()
        return self._process(batch) if batch.more else None

    def _process(self, batch: ClaimedBatch) -> Applied:
        if not batch.events:
            return Applied()
        pending = [_read(event) for event in batch.events]
        if self.spans is not None:
            self.spans.claimed(pending)
        self._look_up(pending)
        self._ask_directory(pending)
        routes, most = self.routes.current(self.database), SQLITE_BATCH if self.database.is_sqlite else EVENT_BATCH
        return _sum([self._apply_or_split(batch, part, routes) for part in parts(pending, most, BYTES)])

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
            since = time.time_ns()
            if client is None:
                gone = Unavailable("its environment is not configured any more", retry_after=NOT_CONFIGURED_WAIT)
                results: Mapping[ConnectionKey, LookupResult] = {key: gone for _, key in asking}
            else:
                results = self._lookups.look_up(client, environment, _wanted(asking), ends_at=ends_at)
            for item, key in asking:
                item.lookup = results.get(key, NOT_ASKED)
            asked = [item for item, _ in asking]
            stage_lines.asked(asked)
            if self.spans is not None:
                self.spans.asked(asked, since=since)

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

    def _apply_or_split(self, batch: ClaimedBatch, pending: Sequence[PendingEvent], routes: RouteSet) -> Applied:
        """Apply the events; where that fails, each half in its own transaction, so that poison fails alone."""
        try:
            return self._apply(batch, pending, routes)
        except Exception as problem:
            if is_away(problem) and not has_answered(problem):
                raise  # no event of this batch is the reason; they are due again when their lease ends
            if len(pending) == 1:
                return self._fail(batch, pending[0], problem)
            log.exception("batch_failed", events=len(pending), then="each half is tried alone")
        half = len(pending) // 2
        return _sum([self._apply_or_split(batch, part, routes) for part in (pending[:half], pending[half:])])

    def _apply(self, batch: ClaimedBatch, pending: Sequence[PendingEvent], routes: RouteSet) -> Applied:
        with self.spans.applying(pending) if self.spans is not None else _NO_SPANS as spans:
            try:
                applied = self._applied(batch, pending, Matches(routes), spans)
            except LeaseLost:
                return Applied()
            written = applied.written
            if spans is not None:
                spans.committed(written.changes, written.jobs)
        stage_lines.applied(pending, written)
        batch.left -= len(pending)
        if self.deliveries is not None and applied.claimed:
            self.deliveries.send(applied.claimed)
        if applied.finished or applied.waiting:
            BATCH_SIZES.labels("processed").observe(len(pending) - applied.canaries)
        for (kind, state), count in applied.outcomes.items():
            EVENTS.labels(kind, state).inc(count)
        return applied

    def _applied(
        self, batch: ClaimedBatch, pending: Sequence[PendingEvent], matches: Matches, spans: "Applying | None"
    ) -> Applied:
        """The result of the transaction, which is tried until nothing has changed meanwhile. Raises LeaseLost."""
        raced = lock = False
        while True:
            try:
                return self._apply_once(batch, pending, matches, lock=lock, spans=spans)
            except NotMatchedYet:
                matches.prepare()
            except EventsChanged:
                lock = True
            except IntegrityError:
                # Another worker created one of the batch's new connections, which can be locked now.
                if raced:
                    raise
                raced = True

    def _apply_once(
        self,
        batch: ClaimedBatch,
        pending: Sequence[PendingEvent],
        matches: Matches,
        *,
        lock: bool,
        spans: "Applying | None",
    ) -> Applied:
        direct = self.deliveries.direct if self.deliveries is not None else frozenset()
        with self.database.write() as session:
            return Batch.load(
                session,
                self.policy,
                matches,
                pending,
                claimed=batch,
                lock=lock,
                now=self.clock(),
                direct=direct,
                spans=spans,
            ).apply()

    def _fail(self, batch: ClaimedBatch, pending: PendingEvent, problem: Exception) -> Applied:
        """Mark an event that could not be applied as failed, unless the database is the reason."""
        ids = {"event_id": show(EVENT, pending.event.id), **trace_of(pending.traceparent)}
        if isinstance(problem, OperationalError):
            # The database, not the event: it stays claimed and is due again when its lease ends.
            log.error("event_left", exc_info=problem, **ids)
            return Applied()
        trace = scrub("".join(traceback.format_exception(problem)), limit=8000)
        log.error("event_failed", problem=trace, **ids)
        try:
            with self.database.write() as session:
                batch.hold(session, 1)
                kind = event_rows.fail(
                    session,
                    pending.event.id,
                    attempts=pending.event.attempts,
                    kind=str(pending.notice.type),
                    problem=trace,
                    now=self.clock(),
                )
        except LeaseLost:
            return Applied()
        batch.left -= 1
        if kind is not None:
            EVENTS.labels(kind, EventState.FAILED).inc()
        return Applied(outcomes=Counter({(kind or "", EventState.FAILED): 1}))


def _read(event: ClaimedEvent) -> PendingEvent:
    """Parse the body by the event's origin: Nango signs any body that it forwards (Nango contract: Forwarded webhooks),
    so that a webhook's is never read in the form of Waylink's own events.
    """
    body = event.body or b""
    if event.environment == canary.ENVIRONMENT:
        return PendingEvent(event, unhandled("a canary"))
    if event.origin == Origin.WEBHOOK:
        clean, notice = read_at_rest(body)  # an earlier release may have stored it otherwise than it is stored now
        return PendingEvent(event, notice, scrubbed_body=None if clean == body else clean)
    try:
        own = read_own(body)
    except ValueError as problem:
        ids = {"event_id": show(EVENT, event.id), **trace_of(event.traceparent)}
        log.error("own_event_unreadable", problem=str(problem), **ids)
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


def _question(pending: PendingEvent, keys: TagKeys) -> Question:
    tags, end_user = pending.evidence
    return Question(tags or {}, read_claim(tags or {}, end_user, keys))


def _sum(parts: Sequence[Applied]) -> Applied:
    return Applied(
        [job_id for part in parts for job_id in part.job_ids],
        [job for part in parts for job in part.claimed],
        sum((part.outcomes for part in parts), Counter()),
        sum(part.waiting for part in parts),
        sum(part.canaries for part in parts),
    )
