"""What every operation does around its call to Nango: find the connection, work alone, note who does what."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, connections, leases
from app.db.engine import Database
from app.deadlines import EDIT_DEADLINE, EDIT_LEASE
from app.domain.budget import Priority
from app.domain.confirming import View
from app.domain.own_event import OwnEvent
from app.domain.states import AuditOutcome, ConnectionStatus, Origin
from app.errors import (
    Conflict,
    NangoConnectionNotFound,
    NangoRefreshBackingOff,
    NangoRefreshExhausted,
    NangoRefreshFailed,
    NangoUnavailable,
    NangoUnexpected,
    NotFound,
    WaylinkError,
)
from app.ids import CONNECTION, new_id, show
from app.nango.client import NangoClient
from app.services import internal_events
from app.services.events.lookups import view_of
from app.services.nango_clients import NangoClients
from app.services.policy import Policy

WAIT_SECONDS: Final = 6.0  # for another edit of the same connection; most take less than one
_LOOK_EVERY: Final = 0.05


@dataclass(frozen=True, slots=True)
class Subject:
    """Our record of the connection that is acted on, as it was when found.

    known_tags: in a drift, the last ones that carried its link.
    """

    ref: UUID
    environment: str
    integration: str
    connection_id: str
    nango_id: int | None
    status: str
    auth_mode: str | None
    tags: Mapping[str, str]
    known_tags: Mapping[str, str] | None
    expires_at: datetime | None
    observed_at: datetime | None

    @property
    def shown(self) -> str:
        return show(CONNECTION, self.ref)


@dataclass(slots=True)
class Act:
    """An act that the audit has as begun. `detail` is what it will say of it, without secrets."""

    row: UUID
    detail: dict[str, Any] = field(default_factory=dict)
    concluded: bool = False

    def conclude(self, session: Session) -> None:
        """It was done: in the transaction that writes what came of it."""
        audit.conclude(session, self.row, AuditOutcome.DONE, self.detail)
        self.concluded = True


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations need. Their transactions are short, and none is open while Nango is asked.

    stored: ids of the events that operations stored, which the endpoint or command hints when the operation is over.
    """

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    stored: list[UUID] = field(default_factory=list)

    def subject(self, connection_ref: UUID) -> Subject:
        """Raises NotFound."""
        with self.database.read() as session:
            one = connections.get(session, connection_ref)
        if one is None:
            raise NotFound("connection", show(CONNECTION, connection_ref))
        return Subject(
            one.id,
            one.environment,
            one.integration,
            one.connection_id,
            one.nango_id,
            one.status,
            one.auth_mode,
            one.tags,
            one.known_tags,
            one.expires_at,
            one.observed_at,
        )

    def store(
        self, session: Session, events: Sequence[OwnEvent], *, environment: str, connection_ref: UUID | None = None
    ) -> None:
        """Store events of an operator. connection_ref: the one connection that all are about, where it is known."""
        self.stored.extend(
            internal_events.store(
                session,
                events,
                environment=environment,
                origin=Origin.OPERATOR,
                now=self.clock(),
                connection_ref=connection_ref,
            )
        )

    def client(self, environment: str) -> NangoClient:
        """Raises NotFound for an environment that is not configured, Conflict for one without an API key."""
        if not self.clients.knows(environment):
            raise NotFound("environment", environment)
        client = self.clients.of(environment, Priority.PEOPLE)
        if client is None:
            raise Conflict(f"the environment {environment!r} has no API key, so Nango cannot be asked")
        return client

    def ends_at(self) -> float:
        """Until when an operation that begins now may ask Nango, on the monotonic clock."""
        return time.monotonic() + EDIT_DEADLINE.total_seconds()

    @contextmanager
    def audited(self, *, actor: str, action: str, subject: str, **detail: object) -> Iterator[Act]:
        """Note the act as begun, then as done or failed. What failed says which error it was, and not its text."""
        with self.database.write() as session:
            row = audit.record(
                session,
                actor=actor,
                action=action,
                subject=subject,
                detail=detail,
                now=self.clock(),
                outcome=AuditOutcome.BEGUN,
            )
        act = Act(row, dict(detail))
        try:
            yield act
        except WaylinkError as failed:
            with self.database.write() as session:
                audit.conclude(session, row, AuditOutcome.FAILED, act.detail | {"error": type(failed).__name__})
            raise
        if not act.concluded:
            with self.database.write() as session:
                act.conclude(session)

    @contextmanager
    def alone(self, what: str) -> Iterator[float]:
        """Work alone on something, in all processes; yields until when, on the monotonic clock.

        A lock of the database would be a transaction that stays open while Nango is asked. Raises Conflict when
        somebody else holds it for longer than anybody should wait.
        """
        holder, give_up_at = new_id(), time.monotonic() + WAIT_SECONDS
        while not self._take(what, holder):
            if time.monotonic() >= give_up_at:
                raise Conflict("somebody else is changing this connection just now: try again", retry_after=2)
            time.sleep(_LOOK_EVERY)
        try:
            yield self.ends_at()
        finally:
            with self.database.write() as session:
                leases.give_back(session, what, holder=holder)

    def _take(self, what: str, holder: UUID) -> bool:
        with self.database.write() as session:
            return leases.take(session, what, holder=holder, now=self.clock(), lasts=EDIT_LEASE)


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection as Nango has it, without its credentials. `exact`: read by its id, not from the list, which lags."""

    view: View
    metadata: Mapping[str, object]
    exact: bool


def read(client: NangoClient, subject: Subject, *, ends_at: float) -> Seen:
    """The connection by its id, and where its credentials are in the way, by the list. Raises NangoError."""
    try:
        found = client.get_connection(
            subject.integration, subject.connection_id, credentials=False, timeout=remaining(ends_at)
        )
        return Seen(view_of(found), found.metadata or {}, exact=True)
    except (NangoRefreshFailed, NangoRefreshBackingOff, NangoRefreshExhausted):
        # Reading by the id may renew the credentials first. Tags and metadata are there, however broken those are.
        return listed(client, subject, ends_at=ends_at)


def listed(client: NangoClient, subject: Subject, *, ends_at: float) -> Seen:
    """The connection as the list shows it, which touches no credentials. Raises NangoConnectionNotFound."""
    page = client.list_connections(connection_id=subject.connection_id, timeout=remaining(ends_at))
    found = next((one for one in page.connections if one.integration == subject.integration), None)
    if found is None:
        if (problem := page.may_hide(subject.integration, subject.connection_id)) is not None:
            raise NangoUnexpected(detail=problem)
        raise NangoConnectionNotFound(detail=subject.connection_id)
    return Seen(view_of(found), found.metadata or {}, exact=False)


def require_same(subject: Subject, seen: Seen) -> None:
    """Raises Conflict where the ids by now mean another connection than our record does."""
    if subject.nango_id is not None and seen.view.nango_id != subject.nango_id:
        raise Conflict(
            "the connection was deleted and made anew at Nango; what is known of it here follows its webhook",
            found={"nango_id": seen.view.nango_id},
        )


def require_not_deleted(subject: Subject) -> None:
    """Raises Conflict."""
    if subject.status == ConnectionStatus.DELETED:
        raise Conflict(f"{subject.shown} is deleted", found={"status": subject.status})


def remaining(ends_at: float) -> float:
    """Seconds left. Raises NangoUnavailable when there are none."""
    left = ends_at - time.monotonic()
    if left < 0.1:
        raise NangoUnavailable(detail="it took too long")
    return left
