"""From an event to its document, from the document to decisions and jobs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.events import insert_for
from app.db.models import Connection, Decision, Event, Job
from app.domain.event import EventError, EventType, Notice, document
from app.domain.linking import Owner
from app.domain.patterns import Condition
from app.domain.routing import Decision as RouteDecision
from app.domain.routing import RouteSet
from app.domain.states import EventState, JobState, Origin
from app.ids import EVENT, JOB, new_id, show
from app.services.directory import Directory


class Judge:
    """Matches documents against one route set and collects what comes of it, to be written in bulk."""

    def __init__(self, routes: RouteSet, directory: Directory, *, now: datetime) -> None:
        self._routes, self._directory, self._now = routes, directory, now
        self._events: list[dict[str, Any]] = []
        self._decisions: list[dict[str, Any]] = []
        self._jobs: list[dict[str, Any]] = []

    @property
    def job_ids(self) -> list[UUID]:
        return [row["id"] for row in self._jobs]

    def judge(
        self,
        event: Event,
        *,
        notice: Notice,
        connection: Connection | None,
        owner: Owner | None,
        confirmed: bool,
        announce: bool,
    ) -> None:
        """Fix the event's document for good and route it, unless the teams were told of it before."""
        event.document = self._document(
            show(EVENT, event.id),
            event.type or str(notice.type),
            environment=event.environment,
            connection=connection,
            owner=owner,
            confirmed=confirmed,
            origin=event.origin,
            occurred_at=event.received_at,
            notice=notice,
        )
        event.route_set = self._routes.version
        if announce:
            self._route(event.id, event.document)

    def conclude(
        self,
        kind: EventType,
        connection: Connection,
        *,
        owner: Owner | None,
        confirmed: bool,
        origin: Origin = Origin.SYSTEM,
        previous: Owner | None = None,
        error: EventError | None = None,
    ) -> None:
        """An event of our own, concluded from another: stored as processed, routed like any."""
        event_id = new_id()
        judged = self._document(
            show(EVENT, event_id),
            kind,
            environment=connection.environment,
            connection=connection,
            owner=owner,
            confirmed=confirmed,
            origin=origin,
            occurred_at=self._now,
            previous=previous,
            error=error,
        )
        self._events.append(self._own_event(event_id, kind, connection, judged, origin=origin, confirmed=confirmed))
        self._route(event_id, judged)

    def write(self, session: Session) -> None:
        """Events before decisions and jobs, which refer to them."""
        for model, rows in ((Event, self._events), (Decision, self._decisions), (Job, self._jobs)):
            if rows:
                session.execute(insert_for(session, model), rows)

    def _document(
        self,
        event_id: str,
        kind: str,
        *,
        environment: str,
        connection: Connection | None,
        owner: Owner | None,
        confirmed: bool,
        origin: str,
        occurred_at: datetime,
        notice: Notice | None = None,
        previous: Owner | None = None,
        error: EventError | None = None,
    ) -> dict[str, Any]:
        # What we know of the connection is better than what the body says; a body may stand alone.
        best: Connection | Notice | None = connection or notice
        return document(
            event_id=event_id,
            type=kind,
            origin=origin,
            occurred_at=occurred_at,
            environment=environment,
            confirmed=confirmed,
            notice=notice,
            integration=best.integration if best else None,
            connection_id=best.connection_id if best else None,
            provider=(connection.provider if connection else None) or (notice.provider if notice else None),
            auth_mode=(connection.auth_mode if connection else None) or (notice.auth_mode if notice else None),
            tags=best.tags if best else None,
            user=self._directory.user(owner.user_id) if owner else None,
            organization=self._directory.organization(owner.organization_id) if owner else None,
            previous_owner=self._owner(previous) if previous else None,
            error=error,
        )

    def _owner(self, owner: Owner) -> dict[str, Any]:
        return {
            "user": self._directory.user(owner.user_id),
            "organization": self._directory.organization(owner.organization_id),
        }

    def _route(self, event_id: UUID, judged: dict[str, Any]) -> None:
        for decision in self._routes.match(judged):
            self._decisions.append(self._decision(event_id, decision))
            self._jobs.append(self._job(event_id, decision))

    def _decision(self, event_id: UUID, decision: RouteDecision) -> dict[str, Any]:
        return {
            "event_id": event_id,
            "route": decision.route.name,
            "route_version": decision.route.version,
            "conditions": [_shown(one) for one in decision.conditions],
            "created_at": self._now,
        }

    def _job(self, event_id: UUID, decision: RouteDecision) -> dict[str, Any]:
        route = decision.route
        return {
            "id": new_id(),
            "event_id": event_id,
            "route": route.name,
            "route_version": route.version,
            "team": route.team,
            "destination": route.destination,
            "name": route.job,
            "state": JobState.AVAILABLE,
            "attempts": 0,
            "crashes": 0,
            "next_at": self._now,
            "created_at": self._now,
        }

    def _own_event(
        self,
        event_id: UUID,
        kind: EventType,
        connection: Connection,
        judged: dict[str, Any],
        *,
        origin: Origin,
        confirmed: bool,
    ) -> dict[str, Any]:
        return {
            "id": event_id,
            "environment": connection.environment,
            "origin": origin,
            "state": EventState.PROCESSED,
            "received_at": self._now,
            "last_seen_at": self._now,
            "duplicates": 0,
            "next_at": self._now,
            "attempts": 0,
            "looks": 0,
            "type": str(kind),
            "integration": connection.integration,
            "connection_id": connection.connection_id,
            "connection_ref": connection.id,
            "confirmed": confirmed,
            "tags": dict(connection.tags),
            "document": judged,
            "route_set": self._routes.version,
            "processed_at": self._now,
        }


def _shown(condition: Condition) -> dict[str, Any]:
    """A condition as it is kept. Of an `$or`, the alternatives that held are named in `actual`."""
    return {"path": condition.path, "expected": condition.expected, "actual": condition.actual}


def job_document(job: Job, event_document: dict[str, Any]) -> dict[str, Any]:
    """A job as teams receive it (DESIGN 5)."""
    return {
        "id": show(JOB, job.id),
        "name": job.name,
        "attempt": job.attempts,
        "created_at": job.created_at.isoformat(),
        "route": {"name": job.route, "version": job.route_version},
        "event": event_document,
    }
