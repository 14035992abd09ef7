"""Claims of batches of events. A lease holds a batch, until the transaction with the result of its last events ends it.

Each claim is a short transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy.orm import Session

from app.db import event_claims as rows
from app.db.engine import Database
from app.db.event_claims import ClaimedEvent
from app.deadlines import EVENT_LEASE, MAX_CLAIMS
from app.ids import EVENT, show
from app.services.events.pending_event import PendingEvent
from app.telemetry import get_logger, trace_of

CLAIMED_BYTES: Final = 8 * 1024 * 1024  # of the bodies that are read at once; what they say takes many times that
# Possibly poison events of one claim, by their attempts; from the third on, each is claimed alone. A worker that dies
# leaves a whole batch of them: few claims find its good ones, and none is given up for its neighbour.
TOGETHER: Final = {1: 64, 2: 8}

log = get_logger(__name__)

Sized = TypeVar("Sized", ClaimedEvent, PendingEvent)


class LeaseLost(Exception):
    """The batch's lease ran out, and other workers have its events: nothing of it may be written."""


@dataclass(slots=True)
class ClaimedBatch:
    """Events under one lease. more: others are due, and were left. left: number of events without a result so far."""

    events: Sequence[ClaimedEvent]
    more: bool = False
    lease_id: UUID | None = None
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.events)

    def hold(self, session: Session, count: int) -> None:
        """Begin a transaction with the result of `count` events; that of the last ones ends the lease.

        Raises LeaseLost.
        """
        if self.lease_id is None:
            return
        held = rows.end(session, self.lease_id) if count == self.left else rows.hold(session, self.lease_id)
        if not held:
            raise LeaseLost


@dataclass(frozen=True, slots=True)
class Claims:
    """Made once per process."""

    database: Database
    clock: Callable[[], datetime]

    def take(self, limit: int) -> ClaimedBatch:
        """Up to `limit` due events with CLAIMED_BYTES of bodies together, the longest due first."""
        with self.database.write(durable=False) as session:
            now = self.clock()
            rows.begin(session, now=now)
            batch = _lease(session, rows.due(session, limit=limit, now=now), now=now)
        return self._with_bodies(batch)

    def take_possibly_poison(self) -> ClaimedBatch:
        """Due events whose last claim brought no result: as many as may be claimed together. Gives up old ones."""
        with self.database.write(durable=False) as session:
            now = self.clock()
            rows.begin(session, now=now)
            found = rows.due(session, limit=max(TOGETHER.values()), now=now, possibly_poison=True)
            crashed = [event for event in found if event.attempts >= MAX_CLAIMS]
            if crashed:
                problem = f"claimed {MAX_CLAIMS} times without a result"
                rows.give_up(session, [event.id for event in crashed], problem=problem, now=now)
            alive = [event for event in found if event.attempts < MAX_CLAIMS]
            alike = [event for event in alive if event.attempts == alive[0].attempts]
            batch = _lease(session, alike[: TOGETHER.get(alike[0].attempts, 1)] if alike else [], now=now)
            batch.more = bool(found)
        for event in crashed:
            trace = trace_of(event.traceparent)
            log.error("event_given_up", event_id=show(EVENT, event.id), failure="crashed", **trace)
        return self._with_bodies(batch)

    def _with_bodies(self, batch: ClaimedBatch) -> ClaimedBatch:
        """The batch with the bodies that its claim left out."""
        if large := [event.id for event in batch.events if event.size and event.body is None]:
            with self.database.read() as session:
                bodies = rows.bodies(session, large)
            batch.events = [replace(event, body=bodies.get(event.id, event.body)) for event in batch.events]
        return batch


def _lease(session: Session, found: Sequence[ClaimedEvent], *, now: datetime) -> ClaimedBatch:
    if not found:
        return ClaimedBatch(())
    claimed = next(parts(found, len(found), CLAIMED_BYTES))
    lease_id = rows.take(session, [event.id for event in claimed], until=now + EVENT_LEASE)
    in_order = sorted(claimed, key=lambda event: event.id.int)  # UUIDs compare in Python
    return ClaimedBatch(in_order, len(claimed) < len(found), lease_id)


def parts(events: Sequence[Sized], most: int, most_bytes: int) -> Iterator[list[Sized]]:
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
