"""Events from received to processed: claim, ask Nango, apply. Short transactions, none open while others are asked."""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy.exc import IntegrityError, OperationalError

from app.db import events as event_rows
from app.db.connections import Key
from app.db.engine import Database
from app.db.errors import has_answered, is_away
from app.db.events import ClaimedEvent
from app.deadlines import BATCH, CONFIRM_DEADLINE, EVENT_LEASE, MAX_CLAIMS
from app.domain.at_rest import read_at_rest
from app.domain.budget import Priority
from app.domain.confirming import (
    ABOUT_TYPES,
    ASKED_TYPES,
    LINKING_TYPES,
    NAMING_TYPES,
    Absent,
    Look,
    NotAsked,
    Unavailable,
    View,
)
from app.domain.event import EventType, Notice, unhandled
from app.domain.linking import TagKeys, read_claim
from app.domain.own_event import read_own
from app.domain.routing import RouteSet
from app.domain.scrub import scrub
from app.domain.states import EventState, Origin
from app.errors import OwnerRemoved
from app.ids import EVENT, show
from app.services.events.batch import Applied, Batch
from app.services.events.lookups import Lookups, Wanted
from app.services.events.pending_event import Judged
from app.services.events.possibly_poison import Suspects
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.routing.matches import Matches, NotMatchedYet
from app.services.sql_directory import Question, SqlDirectory
from app.telemetry import EVENTS, get_logger

NOT_CONFIGURED_WAIT: Final = 60.0  # seconds; somebody has to write it into the configuration first
# In one transaction on SQLite, where everybody else waits meanwhile. Twice as many took 85 ms of CPU in the middle and
# 200 where each brings a new owner; these take half of it, and no more of it for each event.
SQLITE_BATCH: Final = 100
CLAIMED_BYTES: Final = 8 * 1024 * 1024  # of the bodies that are read at once; what they say takes many times that
BYTES: Final = 1024 * 1024  # of the bodies of one transaction, which writes them and what they say
PATIENT_LOOKS: Final = 2  # a connection that two looks at the newest pages did not show is asked for by its id

log = get_logger(__name__)

Sized = TypeVar("Sized", ClaimedEvent, Judged)


@dataclass(frozen=True, slots=True)
class _Told:
    """A claimed event with what its body says, and for one of our own what it was found by."""

    event: ClaimedEvent
    notice: Notice
    look: View | Absent | None = None
    scrubbed_body: bytes | None = None

    @property
    def key(self) -> Key | None:
        return (self.event.environment, *self.notice.key) if self.notice.key else None

    @property
    def asks(self) -> bool:
        """Whether Nango has to be asked: of what only goes with a connection, once that was waited for."""
        waited = self.notice.type in ABOUT_TYPES and self.event.looks > 0
        return self.look is None and (waited or self.notice.type in ASKED_TYPES)

    @property
    def wanted(self) -> Wanted:
        """What to look for. A duplicate, and what was looked for twice in vain, need a look of their own."""
        event, notice = self.event, self.notice
        fresh = notice.type is not EventType.CONNECTION_CREATED or event.duplicates
        created_tags = None if fresh else notice.tags
        return Wanted(
            event.last_seen_at,
            created_tags,
            patient=event.looks < PATIENT_LOOKS,
            confirms=notice.type not in NAMING_TYPES,
        )


@dataclass(slots=True)
class Processor:
    """What a worker needs to process events; made once per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    routes: RouteCache = field(default_factory=RouteCache)
    directory: SqlDirectory | None = None  # with the directory policy `sql`
    _lookups: Lookups = field(default_factory=Lookups, init=False)
    _suspects: Suspects = field(init=False)

    def __post_init__(self) -> None:
        self._suspects = Suspects(self.clock)

    def process(self, ids: Collection[UUID], *, limit: int = BATCH) -> Applied:
        """Process the hinted events that are due, and other due ones, up to `limit`.

        An event whose last claim brought no result may have killed its worker: such go one at a time, so that poison
        does not use up its neighbours' attempts.
        """
        done: list[Applied] = []
        more = True
        while more and limit > 0:
            claimed, more = self._claim(ids, limit)
            done.append(self._process(claimed))
            limit -= len(claimed)
        return _sum([*done, *self._suspects.each(self._process_suspect)])

    def _process_suspect(self) -> Applied | None:
        claimed, _ = self._claim((), 1, suspects=True)
        return self._process(claimed) if claimed else None

    def _process(self, claimed: Sequence[ClaimedEvent]) -> Applied:
        if not claimed:
            return Applied()
        told = [_read(event) for event in claimed]
        looks = self._look(told)
        judged = self._name([_judged(one, looks) for one in told])
        routes, most = self.routes.current(self.database), SQLITE_BATCH if self.database.is_sqlite else BATCH
        return _sum([self._apply_or_split(part, routes) for part in _parts(judged, most, BYTES)])

    def _claim(self, ids: Collection[UUID], limit: int, *, suspects: bool = False) -> tuple[list[ClaimedEvent], bool]:
        """Up to `limit` events, whose bodies have CLAIMED_BYTES together, and whether others were left for that."""
        with self.database.write() as session:
            now = self.clock()
            found = event_rows.claim(session, ids, limit=limit, now=now, lease=EVENT_LEASE, suspects=suspects)
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

    def _look(self, told: Sequence[_Told]) -> dict[Key, Look]:
        """Ask each environment's Nango once for all connections of the batch that have something to confirm."""
        wanted: dict[str, dict[Key, Wanted]] = {}
        for one in told:
            if one.asks and one.key:
                ours = wanted.setdefault(one.event.environment, {})
                # Two events of one connection in a batch: only a fresh look can serve both.
                ours[one.key] = Wanted(one.event.last_seen_at) if one.key in ours else one.wanted
        looks: dict[Key, Look] = {}
        ends_at = time.monotonic() + CONFIRM_DEADLINE.total_seconds()
        for environment, ours in sorted(wanted.items()):
            client = self.clients.of(environment, Priority.CONFIRM)
            if client is not None:
                looks.update(self._lookups.look_up(client, environment, ours, ends_at=ends_at))
            elif not self.clients.knows(environment):
                gone = Unavailable("its environment is not configured any more", retry_after=NOT_CONFIGURED_WAIT)
                looks.update(dict.fromkeys(ours, gone))
        return looks

    def _name(self, judged: Sequence[Judged]) -> Sequence[Judged]:
        """Ask the application's database whom the tags name, where it is the one that says so."""
        if self.directory is None:
            return judged
        asking = [one for one in judged if one.notice.type in LINKING_TYPES and isinstance(one.look, View | NotAsked)]
        answers = self.directory.ask(_question(one, self.policy.tag_keys) for one in asking)
        changed = {one.event_id: one.answered(answer) for one, answer in zip(asking, answers, strict=True)}
        return [changed.get(one.event_id, one) for one in judged]

    def _apply_or_split(self, judged: Sequence[Judged], routes: RouteSet) -> Applied:
        """A poison event fails alone: a batch that fails is tried in halves, each in its own short transaction."""
        try:
            return self._apply(judged, routes)
        except Exception as problem:
            if is_away(problem) and not has_answered(problem):
                raise  # nothing of this batch is the reason; when the leases have ended it comes back
            if len(judged) == 1:
                return self._end(judged[0], problem)
            log.exception("batch_failed", events=len(judged), then="each half is tried alone")
        half = len(judged) // 2
        return _sum([self._apply_or_split(part, routes) for part in (judged[:half], judged[half:])])

    def _apply(self, judged: Sequence[Judged], routes: RouteSet) -> Applied:
        matches = Matches(routes)
        raced = False
        while True:
            try:
                applied = self._apply_once(judged, matches)
                break
            except NotMatchedYet:
                matches.prepare()
            except (IntegrityError, OwnerRemoved):
                # Another worker made one of the batch's new connections meanwhile; now it is there to be locked.
                # Or a person removed an owner; now they are not found any more.
                if raced:
                    raise
                raced = True
        for (kind, state), count in applied.outcomes.items():
            EVENTS.labels(kind, state).inc(count)
        return applied

    def _apply_once(self, judged: Sequence[Judged], matches: Matches) -> Applied:
        with self.database.write() as session:
            return Batch(session, self.policy, matches, judged, now=self.clock()).apply()

    def _end(self, judged: Judged, problem: Exception) -> Applied:
        """What an event came to that could not be applied."""
        event_id = show(EVENT, judged.event_id)
        if isinstance(problem, OperationalError):
            # The database, not the event: it stays claimed and comes back when its lease has ended.
            log.error("event_left", event_id=event_id, exc_info=problem)
            return Applied()
        trace = scrub("".join(traceback.format_exception(problem)), limit=8000)
        log.error("event_failed", event_id=event_id, problem=trace)
        with self.database.write() as session:
            kind = event_rows.fail(
                session,
                judged.event_id,
                attempts=judged.attempts,
                kind=str(judged.notice.type),
                problem=trace,
                now=self.clock(),
            )
        if kind is not None:
            EVENTS.labels(kind, EventState.FAILED).inc()
        return Applied(outcomes=Counter({(kind or "", EventState.FAILED): 1}))


def _read(event: ClaimedEvent) -> _Told:
    """A webhook is never read in our own form: anybody can have one signed (Nango contract: Forwarded webhooks)."""
    body = event.body or b""
    if event.origin == Origin.WEBHOOK:
        clean, notice = read_at_rest(body)  # an earlier release may have stored it otherwise than it is stored now
        return _Told(event, notice, scrubbed_body=None if clean == body else clean)
    try:
        own = read_own(body)
    except ValueError as problem:
        log.error("own_event_unreadable", event_id=show(EVENT, event.id), problem=str(problem))
        return _Told(event, unhandled(str(problem)))
    # What it was found by is its first look. If that settled nothing, Nango is asked anew.
    return _Told(event, own.notice, look=None if event.looks else own.look)


def _judged(told: _Told, looks: dict[Key, Look]) -> Judged:
    event, notice = told.event, told.notice
    look = told.look or (looks.get(told.key) if told.asks and told.key else None)
    return Judged(
        event_id=event.id,
        attempts=event.attempts,
        duplicates=event.duplicates,
        key=told.key,
        seen_at=event.last_seen_at,
        notice=notice,
        look=look or NotAsked(),
        found=event.origin == Origin.RECONCILE,
        scrubbed_body=told.scrubbed_body,
        size=event.size,
    )


def _parts(several: Sequence[Sized], most: int, most_bytes: int) -> Iterator[list[Sized]]:
    """As many as `most`, in order, with no more than `most_bytes` of bodies together, but one at least."""
    part: list[Sized] = []
    size = 0
    for one in several:
        if part and (len(part) >= most or size + one.size > most_bytes):
            yield part
            part, size = [], 0
        part.append(one)
        size += one.size
    if part:
        yield part


def _question(judged: Judged, keys: TagKeys) -> Question:
    tags, end_user = judged.evidence
    return Question(tags or {}, read_claim(tags or {}, end_user, keys))


def _sum(parts: Sequence[Applied]) -> Applied:
    return Applied(
        [job_id for one in parts for job_id in one.job_ids],
        sum((one.outcomes for one in parts), Counter()),
        sum(one.waiting for one in parts),
    )
