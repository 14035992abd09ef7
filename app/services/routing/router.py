"""The router: makes events' documents, matches them, and writes events and jobs in bulk."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Raw
from sqlalchemy.orm import Session

from app.db import events as event_rows
from app.db.connections import ConnectionState
from app.db.event_claims import ClaimedEvent
from app.db.jobs import EventDocument, JobToSend, claimed_job, claimed_until
from app.deadlines import JOB_LEASE
from app.domain import canary
from app.domain.definitions import DestinationKey
from app.domain.event import EventError, EventType, Notice, document
from app.domain.linking import Owner
from app.domain.patterns import Condition, compile_pattern
from app.domain.routing import Matched, Route, RoutingDecision
from app.domain.shortening import shortened
from app.domain.states import EventState, JobState, Origin
from app.ids import EVENT, new_id, show
from app.services.directory import Directory
from app.services.routing.precomputed_matches import Matches
from app.telemetry import ROUTES_UNDECIDED, get_logger, trace_of
from app.wording import counted

# No route is stored: it would be a team's, and shown.
_EVERY_CANARY: Final = compile_pattern({"environment": [canary.ENVIRONMENT]})
_ROUTE: Final = Route(canary.ROUTE, 1, canary.TEAM, canary.DESTINATION, canary.JOB, _EVERY_CANARY)
_CANARY: Final = RoutingDecision(_ROUTE, True, ())

log = get_logger(__name__)


class Router:
    """Matches event documents against one route set, and collects events and jobs until `write`.

    direct: destinations whose jobs are inserted as claimed, to be sent after the commit by this process.
    """

    def __init__(
        self, matches: Matches, directory: Directory, *, now: datetime, direct: Collection[DestinationKey] = ()
    ) -> None:
        self._matches, self._directory, self._now, self._direct = matches, directory, now, direct
        self.events: list[dict[str, Any]] = []  # rows of further events and of jobs
        self.jobs: list[dict[str, Any]] = []
        self.claimed: list[JobToSend] = []
        self.traceparent: str | None = None  # of the event that is being applied: what follows from it has the same
        self._undecided: list[tuple[UUID, Route, str | None]] = []

    @property
    def job_ids(self) -> list[UUID]:
        """The jobs that wait to be claimed."""
        return [row["id"] for row in self.jobs if row["state"] is JobState.AVAILABLE]

    @property
    def route_set(self) -> int:
        return self._matches.routes.version

    def route(
        self,
        event: ClaimedEvent,
        kind: str,
        *,
        notice: Notice,
        connection: ConnectionState | None,
        owner: Owner | None,
        confirmed: bool,
        announce: bool,
        size: int,
    ) -> tuple[Raw, str | None]:
        """Make the event's document and route it. Returns the document as JSON, and a note or None.

        announce: False for a suppressed event, which is not routed. size: of the event's body, in bytes.
        """
        routed = self._document(
            show(EVENT, event.id),
            kind,
            environment=event.environment,
            connection=connection,
            owner=owner,
            confirmed=confirmed,
            origin=event.origin,
            occurred_at=event.received_at,
            notice=notice,
        )
        encoded = _encoded(routed)
        if event.environment == canary.ENVIRONMENT:
            self.jobs.append(job_row(event.id, _CANARY, now=self._now))
            return encoded, None
        matched = self._matches.of(event.id, routed, size=size) if announce else None
        return encoded, self._collect(event.id, matched, encoded) if matched is not None else None

    def emit(
        self,
        kind: EventType,
        connection: ConnectionState,
        *,
        owner: Owner | None,
        confirmed: bool,
        origin: Origin = Origin.SYSTEM,
        previous: Owner | None = None,
        error: EventError | None = None,
        payload: Mapping[str, object] | None = None,
        cause: UUID | None = None,
    ) -> None:
        """Store an event of Waylink's own that follows from another, as processed, and route it.

        cause: of a `connection.linked`, the event that it follows from, if `route` makes that one's document as well.
        """
        event_id = new_id()
        if cause is not None and previous is None and not self._matches.routes.asks_for(kind):
            row = self._event_row(event_id, kind, connection, None, origin=origin, confirmed=confirmed)
            self.events.append(row | {"cause_id": cause, "problem": None})
            return
        emitted = self._document(
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
            payload=payload,
        )
        matched = self._matches.routes.match(emitted)  # small: it holds a connection and its owner only
        encoded = _encoded(emitted)
        row = self._event_row(event_id, kind, connection, encoded, origin=origin, confirmed=confirmed)
        self.events.append(row | {"cause_id": None, "problem": self._collect(event_id, matched, encoded)})

    def write(self, session: Session) -> None:
        """Write events, then jobs, which refer to them."""
        event_rows.insert_routed(session, self.events, self.jobs)
        for event_id, route, trace in self._undecided:
            ROUTES_UNDECIDED.labels(route.team).inc()
            ids = {"event_id": show(EVENT, event_id), **trace_of(trace)}
            log.warning("route_undecided", route=route.name, team=route.team, **ids)

    def _document(
        self,
        event_id: str,
        kind: str,
        *,
        environment: str,
        connection: ConnectionState | None,
        owner: Owner | None,
        confirmed: bool,
        origin: str,
        occurred_at: datetime,
        notice: Notice | None = None,
        previous: Owner | None = None,
        error: EventError | None = None,
        payload: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        # The stored connection is more complete than the body; a body may name no connection.
        best: ConnectionState | Notice | None = connection or notice
        return document(
            event_id=event_id,
            type=kind,
            origin=origin,
            occurred_at=occurred_at,
            environment=environment or None,
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
            payload=payload,
        )

    def _owner(self, owner: Owner) -> dict[str, Any]:
        return {
            "user": self._directory.user(owner.user_id),
            "organization": self._directory.organization(owner.organization_id),
        }

    def _collect(self, event_id: UUID, matched: Matched, document: Raw) -> str | None:
        """Collect an event's jobs. Returns a note on undecided routes, or None."""
        for decision in matched.decisions:
            row = job_row(event_id, decision, now=self._now)
            if (row["team"], row["destination"]) in self._direct:
                row |= claimed_until(self._now + JOB_LEASE)
                self.claimed.append(JobToSend(claimed_job(row), EventDocument(document, self.traceparent)))
            self.jobs.append(row)
        self._undecided += [(event_id, route, self.traceparent) for route in matched.undecided]
        return undecided_note(matched.undecided)

    def _event_row(
        self,
        event_id: UUID,
        kind: EventType,
        connection: ConnectionState,
        document: Raw | None,
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
            "document": document,
            "route_set": self.route_set,
            "processed_at": self._now,
            "traceparent": self.traceparent,
        }


def job_row(event_id: UUID, decision: RoutingDecision, *, now: datetime) -> dict[str, Any]:
    """The `jobs` row of a matching route's new job, due at once."""
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
        "next_at": now,
        "created_at": now,
        "matched_version": route.version,
        "conditions": [_condition_row(condition) for condition in decision.conditions],
    }


def _encoded(document: dict[str, Any]) -> Raw:
    """A document as JSON, made once for the event's row and for all messages that carry it."""
    return Raw(msgspec.json.encode(document))


def undecided_note(routes: Sequence[Route]) -> str | None:
    """The event's note on undecided routes; None without any.

    It names no route: every team with a job of the event can read it, and route names are their team's own.
    """
    if not routes:
        return None
    return (
        f"{counted(len(routes), 'route')} not decided, for it would take too much work: explain the event to see which"
    )


def _condition_row(condition: Condition) -> dict[str, Any]:
    """A stored condition, with long values shortened. For an `$or`, `actual` names the alternatives that matched."""
    expected, actual = shortened(condition.expected), shortened(condition.actual)
    return {"path": condition.path, "expected": expected, "actual": actual}
