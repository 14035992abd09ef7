"""Tell of a destination whose state changed, and of jobs that were given up: in the transaction that did it.

A change is told once, when it happens, and not with every failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from app.domain.states import DestinationChange, Fault
from app.ids import JOB, show
from app.services.route_cache import RouteCache
from app.telemetry import DESTINATION_CHANGES, JOBS_DISCARDED, get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedDestination:
    """`since`: since when it fails, or failed; None where that was not the reason."""

    team: str
    destination: str
    change: DestinationChange
    reason: str
    since: datetime | None = None


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
    """Made once per process."""

    routes: RouteCache = field(default_factory=RouteCache)

    def destinations_changed(self, session: Session, changes: Sequence[ChangedDestination], *, now: datetime) -> None:
        """Within the transaction that changed them."""
        for one in changes:
            DESTINATION_CHANGES.labels(one.team, one.destination, one.change).inc()
            facts = {"team": one.team, "destination": one.destination, "reason": one.reason}
            if one.change is DestinationChange.RECOVERED:
                log.info("destination_recovered", **facts)
            else:
                log.warning("destination_changed", change=str(one.change), **facts)

    def jobs_discarded(self, session: Session, jobs: Sequence[DiscardedJob], *, now: datetime) -> None:
        """Within the transaction that discarded them."""
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
