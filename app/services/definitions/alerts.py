"""Tell of a destination whose state changed, and of jobs that were given up: in the transaction that did it.

A change is told once, when it happens, and not with every failure. Dead letters may be many: the first is told at
once, what follows within a minute is told together. Both become events of our own, which routes may take.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import destinations, discards
from app.db import events as event_rows
from app.db.engine import Database
from app.db.models import Discards
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.domain.routing import ALERTS
from app.domain.scrub import scrub
from app.domain.states import DestinationTransition, Fault, Origin
from app.ids import JOB, show
from app.services import internal_events
from app.telemetry import DESTINATION_CHANGES, JOBS_DISCARDED, get_logger

NO_ENVIRONMENT: Final = ""  # of events that belong to none; no environment can be called so
DISCARDS_EVERY: Final = timedelta(minutes=1)
SAMPLES: Final = 10
CHUNK: Final = 100
_TYPES: Final = {
    DestinationTransition.FAILING: EventType.DESTINATION_FAILING,
    DestinationTransition.DISABLED: EventType.DESTINATION_DISABLED,
    DestinationTransition.RECOVERED: EventType.DESTINATION_RECOVERED,
}

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedDestination:
    """`since`: since when it fails, failed or was disabled; None for now. `counts`: of the hand-overs that decided."""

    team: str
    destination: str
    change: DestinationTransition
    reason: str
    since: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedJob:
    """A dead letter, as it was recorded."""

    id: UUID
    event_id: UUID
    team: str
    destination: str
    route: str
    name: str
    attempts: int
    fault: Fault
    problem: str


@dataclass(slots=True)
class Alerts:
    """Whoever changes a state tells it here. Dead letters of one destination are told of once in `discards_every`."""

    discards_every: timedelta = DISCARDS_EVERY

    def destinations_changed(self, session: Session, changes: Sequence[ChangedDestination], *, now: datetime) -> None:
        """Within the transaction that changed them."""
        for one in changes:
            DESTINATION_CHANGES.labels(one.team, one.destination, one.change).inc()
            facts = {"team": one.team, "destination": one.destination, "reason": one.reason}
            if one.change is DestinationTransition.RECOVERED:
                log.info("destination_recovered", **facts)
            else:
                log.warning("destination_changed", change=str(one.change), **facts)
        told = [OwnEvent(type=_TYPES[one.change], payload=_standing(session, one, now)) for one in changes]
        internal_events.store(session, told, environment=NO_ENVIRONMENT, origin=Origin.SYSTEM, now=now)

    def jobs_discarded(self, session: Session, jobs: Sequence[DiscardedJob], *, now: datetime) -> None:
        """Within the transaction that discarded them. Of the jobs of an alert nobody is told, or alerts might chase
        each other without end."""
        for one in jobs:
            JOBS_DISCARDED.labels(one.team, one.destination, one.fault).inc()
            log.error(
                "job_discarded",
                job_id=show(JOB, one.id),
                team=one.team,
                destination=one.destination,
                fault=str(one.fault),
                problem=one.problem,
            )
        if not jobs:
            return
        events = event_rows.typed(session, {one.event_id for one in jobs})
        found: defaultdict[discards.DiscardKey, list[DiscardedJob]] = defaultdict(list)
        for one in jobs:
            event = events[one.event_id]
            if not (event.type or "").startswith(ALERTS):
                found[one.team, one.destination, event.environment].append(one)
        for key, row in discards.lock(session, found, now=now).items():
            _add(row, found[key], now)
            if row.next_at <= now:
                self._tell(session, row, now)

    def tell_waiting(self, database: Database, *, clock: Callable[[], datetime]) -> int:
        """Tell of dead letters that had to wait for their minute to end. Returns how many events came of it."""
        with database.read() as session:  # on SQLite, asking must not wait for the one who writes
            if not discards.any_due(session, now=clock()):
                return 0
        with database.write() as session:
            now = clock()
            due = discards.lock_due(session, now=now, limit=CHUNK)
            for row in due:
                self._tell(session, row, now)
        return len(due)

    def _tell(self, session: Session, row: Discards, now: datetime) -> None:
        payload = {
            "team": row.team,
            "destination": row.destination,
            "since": row.since.isoformat() if row.since else None,
            "counts": {"discarded": row.count},
            **row.facts,
        }
        told = OwnEvent(type=EventType.JOB_DISCARDED, payload=payload)
        internal_events.store(session, [told], environment=row.environment, origin=Origin.SYSTEM, now=now)
        row.count, row.since, row.facts, row.next_at = 0, None, {}, now + self.discards_every


def _standing(session: Session, one: ChangedDestination, now: datetime) -> Mapping[str, Any]:
    """What a destination's alert says."""
    waiting = destinations.waiting_jobs(session, team=one.team, destination=one.destination)
    return {
        "team": one.team,
        "destination": one.destination,
        "kind": destinations.kind_of(session, team=one.team, destination=one.destination),
        "reason": scrub(one.reason),
        "since": (one.since or now).isoformat(),
        "counts": {**one.counts, "waiting": len(waiting)},
        "jobs": [show(JOB, job_id) for job_id in waiting[:SAMPLES]],
    }


def _add(row: Discards, jobs: Sequence[DiscardedJob], now: datetime) -> None:
    """To what is to be told; the last one's reason stands for all."""
    known = row.facts
    row.since, row.count = row.since or now, row.count + len(jobs)
    row.facts = {
        "reason": scrub(jobs[-1].problem),
        "fault": sorted({*known.get("fault", ()), *(str(one.fault) for one in jobs)}),
        "routes": sorted({*known.get("routes", ()), *(one.route for one in jobs)})[:SAMPLES],
        "jobs": [*known.get("jobs", ()), *(show(JOB, one.id) for one in jobs)][:SAMPLES],
    }
