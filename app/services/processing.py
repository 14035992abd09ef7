"""Events from received to processed: claim, ask Nango, apply. Short transactions, none open while Nango is asked."""

import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import OperationalError

from app.db import events as event_rows
from app.db.connections import Key
from app.db.engine import Database
from app.db.models import Event
from app.deadlines import BATCH, CONFIRM_DEADLINE, EVENT_LEASE, MAX_CLAIMS, SUSPECTS_SECONDS
from app.domain.confirming import CONFIRMABLE_TYPES, Look, NotAsked, Unavailable
from app.domain.event import Notice, read
from app.domain.routing import RouteSet
from app.domain.scrub import scrub
from app.domain.states import EventState
from app.ids import EVENT, show
from app.services.applying import Applied, Batch, Judged
from app.services.confirming import NangoClients, look_up
from app.services.policy import Policy
from app.services.route_cache import RouteCache
from app.telemetry import EVENTS, get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Processor:
    """What a worker needs to process events; made once per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    routes: RouteCache = field(default_factory=RouteCache)

    def process(self, ids: Collection[UUID], *, limit: int = BATCH) -> Applied:
        """Process the hinted events that are due, and other due ones, up to `limit`.

        An event whose last claim brought no result may have killed its worker: such go one at a time, so that poison
        does not use up its neighbours' attempts.
        """
        done = [self._process(self._claim(ids, limit))]
        ends_at = time.monotonic() + SUSPECTS_SECONDS
        while time.monotonic() < ends_at:
            claimed = self._claim((), 1, suspects=True)
            if not claimed:
                break
            done.append(self._process(claimed))
        return Applied(
            [job_id for one in done for job_id in one.job_ids],
            sum(one.settled for one in done),
            sum(one.waiting for one in done),
        )

    def _process(self, claimed: Sequence[Event]) -> Applied:
        claimed = [event for event in claimed if event.attempts <= MAX_CLAIMS]
        if not claimed:
            return Applied()
        notices = {event.id: read(event.body or b"") for event in claimed}
        looks = self._look(claimed, notices)
        judged = [_judged(event, notices[event.id], looks) for event in claimed]
        routes = self.routes.current(self.database)
        try:
            return self._apply(judged, routes)
        except Exception:
            log.exception("batch_failed", events=len(judged), then="each event is tried alone")
        return self._apply_each(judged, routes)

    def _claim(self, ids: Collection[UUID], limit: int, *, suspects: bool = False) -> list[Event]:
        with self.database.write() as session:
            now = self.clock()
            claimed = event_rows.claim(session, ids, limit=limit, now=now, lease=EVENT_LEASE, suspects=suspects)
            crashed = [event for event in claimed if event.attempts > MAX_CLAIMS]
            for event in crashed:
                event.state, event.failure = EventState.FAILED, "crashed"
                event.problem = f"claimed {MAX_CLAIMS} times without a result"
                event.processed_at = now
                log.error("event_given_up", event_id=show(EVENT, event.id), failure="crashed")
        return claimed

    def _look(self, claimed: Sequence[Event], notices: dict[UUID, Notice]) -> dict[Key, Look]:
        """Ask each environment's Nango once for all connections of the batch that have something to confirm."""
        wanted: dict[str, set[Key]] = {}
        for event in claimed:
            notice = notices[event.id]
            if notice.type in CONFIRMABLE_TYPES and notice.key:
                wanted.setdefault(event.environment, set()).add((event.environment, *notice.key))
        looks: dict[Key, Look] = {}
        ends_at = time.monotonic() + CONFIRM_DEADLINE.total_seconds()
        for environment, keys in sorted(wanted.items()):
            client = self.clients.of(environment)
            if client is not None:
                looks.update(look_up(client, environment, keys, ends_at=ends_at))
            elif not self.clients.knows(environment):
                gone = Unavailable("its environment is not configured any more")
                looks.update(dict.fromkeys(keys, gone))
        return looks

    def _apply(self, judged: Sequence[Judged], routes: RouteSet) -> Applied:
        with self.database.write() as session:
            return Batch(session, self.policy, routes, judged, now=self.clock()).apply()

    def _apply_each(self, judged: Sequence[Judged], routes: RouteSet) -> Applied:
        """A poison event fails alone, not its batch."""
        job_ids: list[UUID] = []
        settled = waiting = 0
        for one in judged:
            try:
                applied = self._apply([one], routes)
            except OperationalError:
                # The database, not the event: it stays claimed and comes back when its lease has ended.
                log.exception("event_left", event_id=show(EVENT, one.event_id))
            except Exception:  # noqa: BLE001 - whatever it is, it ends on the event, with its traceback
                self._fail(one, traceback.format_exc())
                settled += 1
            else:
                job_ids += applied.job_ids
                settled, waiting = settled + applied.settled, waiting + applied.waiting
        return Applied(job_ids, settled, waiting)

    def _fail(self, judged: Judged, trace: str) -> None:
        with self.database.write() as session:
            for event in event_rows.lock(session, [judged.event_id]):
                if event.state == EventState.RECEIVED and event.attempts == judged.attempts:
                    event.state, event.failure = EventState.FAILED, "error"
                    event.problem = scrub(trace, limit=8000)
                    event.type = event.type or str(judged.notice.type)
                    event.processed_at = self.clock()
                    EVENTS.labels(event.type, EventState.FAILED).inc()
        log.error("event_failed", event_id=show(EVENT, judged.event_id), problem=trace)


def _judged(event: Event, notice: Notice, looks: dict[Key, Look]) -> Judged:
    look: Look = NotAsked()
    if notice.type in CONFIRMABLE_TYPES and notice.key:
        look = looks.get((event.environment, *notice.key), NotAsked())
    return Judged(
        event_id=event.id,
        attempts=event.attempts,
        duplicates=event.duplicates,
        environment=event.environment,
        seen_at=event.last_seen_at,
        notice=notice,
        look=look,
    )
