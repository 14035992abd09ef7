"""Alerts of changed destinations and discarded jobs, stored in the transaction that changes them.

A change is announced once. Dead letters may be many: the first is announced at once, those within the following minute
together. Both become events of Waylink's own, which routes may take.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import destinations, discard_alerts
from app.db import events as event_rows
from app.db.engine import Database
from app.db.models import Discards
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.domain.routing import ALERTS
from app.domain.scrub import scrub
from app.domain.states import DestinationTransition, Fault, Origin
from app.ids import JOB, show
from app.services import own_events
from app.telemetry import DESTINATION_CHANGES, JOBS_DISCARDED, get_logger

NO_ENVIRONMENT: Final = ""  # of events without an environment; not a valid name of one
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
    """A change of a destination's state. `since`: of the state that begins or ends; None for now.

    `counts`: of the attempts that moved the breaker.
    """

    team: str
    destination: str
    change: DestinationTransition
    reason: str
    since: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedJob:
    """A dead letter."""

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
    """Stores alerts. Dead letters of one destination are announced once per `discards_every`."""

    discards_every: timedelta = DISCARDS_EVERY

    def destinations_changed(self, session: Session, changes: Sequence[ChangedDestination], *, now: datetime) -> None:
        """Announce changes, in the transaction that makes them."""
        for change in changes:
            DESTINATION_CHANGES.labels(change.team, change.destination, change.change).inc()
            facts = {"team": change.team, "destination": change.destination, "reason": change.reason}
            if change.change is DestinationTransition.RECOVERED:
                log.info("destination_recovered", **facts)
            else:
                log.warning("destination_changed", change=str(change.change), **facts)
        events = [OwnEvent(type=_TYPES[change.change], payload=_payload(session, change, now)) for change in changes]
        own_events.store(session, events, environment=NO_ENVIRONMENT, origin=Origin.SYSTEM, now=now)

    def jobs_discarded(self, session: Session, jobs: Sequence[DiscardedJob], *, now: datetime) -> None:
        """Announce dead letters, in the transaction that discards them.

        Jobs of alerts are not announced, as alerts could cause each other without end.
        """
        for job in jobs:
            JOBS_DISCARDED.labels(job.team, job.destination, job.fault).inc()
            log.error(
                "job_discarded",
                job_id=show(JOB, job.id),
                team=job.team,
                destination=job.destination,
                fault=str(job.fault),
                problem=job.problem,
            )
        if not jobs:
            return
        events = event_rows.typed(session, {job.event_id for job in jobs})
        found: defaultdict[discard_alerts.DiscardKey, list[DiscardedJob]] = defaultdict(list)
        for job in jobs:
            event = events[job.event_id]
            if not (event.type or "").startswith(ALERTS):
                found[job.team, job.destination, event.environment].append(job)
        for key, row in discard_alerts.lock(session, found, now=now).items():
            _add(row, found[key], now)
            if row.next_at <= now:
                self._announce(session, row, now)

    def announce_waiting(self, database: Database, *, clock: Callable[[], datetime]) -> int:
        """Announce dead letters whose minute has ended. Returns the number of events."""
        with database.read() as session:  # on SQLite a write transaction would wait for other writers
            if not discard_alerts.any_due(session, now=clock()):
                return 0
        with database.write() as session:
            now = clock()
            due = discard_alerts.lock_due(session, now=now, limit=CHUNK)
            for row in due:
                self._announce(session, row, now)
        return len(due)

    def _announce(self, session: Session, row: Discards, now: datetime) -> None:
        payload = {
            "team": row.team,
            "destination": row.destination,
            "since": row.since.isoformat() if row.since else None,
            "counts": {"discarded": row.count},
            **row.facts,
        }
        event = OwnEvent(type=EventType.JOB_DISCARDED, payload=payload)
        own_events.store(session, [event], environment=row.environment, origin=Origin.SYSTEM, now=now)
        row.count, row.since, row.facts, row.next_at = 0, None, {}, now + self.discards_every


def _payload(session: Session, change: ChangedDestination, now: datetime) -> Mapping[str, Any]:
    """The payload of a destination's alert."""
    waiting = destinations.waiting_jobs(session, team=change.team, destination=change.destination)
    return {
        "team": change.team,
        "destination": change.destination,
        "kind": destinations.kind_of(session, team=change.team, destination=change.destination),
        "reason": scrub(change.reason),
        "since": (change.since or now).isoformat(),
        "counts": {**change.counts, "waiting": len(waiting)},
        "jobs": [show(JOB, job_id) for job_id in waiting[:SAMPLES]],
    }


def _add(row: Discards, jobs: Sequence[DiscardedJob], now: datetime) -> None:
    """Add dead letters to those to be announced; the last one's reason stands for all."""
    known = row.facts
    row.since, row.count = row.since or now, row.count + len(jobs)
    row.facts = {
        "reason": scrub(jobs[-1].problem),
        "fault": sorted({*known.get("fault", ()), *(str(job.fault) for job in jobs)}),
        "routes": sorted({*known.get("routes", ()), *(job.route for job in jobs)})[:SAMPLES],
        "jobs": [*known.get("jobs", ()), *(show(JOB, job.id) for job in jobs)][:SAMPLES],
    }
