"""Common steps around an operation's call to Nango: find the connection, lock it, and write the audit.

Opens short transactions, none while Nango is asked.
"""

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
from app.domain.confirming import Snapshot
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
from app.services import own_events
from app.services.events.lookups import snapshot_of
from app.services.nango_clients import NangoClients
from app.services.policy import Policy

WAIT_SECONDS: Final = 6.0  # for another edit of the same connection; most take less than one second
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """The local record of the connection that an operation concerns, as it was when found.

    known_tags: during a drift, the last tags that carried its link.
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
    renewed_at: datetime | None = None

    @property
    def shown(self) -> str:
        return show(CONNECTION, self.ref)


@dataclass(slots=True)
class AuditedAction:
    """An action that the audit lists as begun. `detail`: what its final entry says, without secrets."""

    row: UUID
    detail: dict[str, Any] = field(default_factory=dict)
    concluded: bool = False

    def conclude(self, session: Session) -> None:
        """Mark the action as done, in the transaction that writes its result."""
        audit.conclude(session, self.row, AuditOutcome.DONE, self.detail)
        self.concluded = True


@dataclass(frozen=True, slots=True)
class Operations:
    """Dependencies and common steps of operations. Transactions are short; none is open during a call to Nango.

    priority: of the calls, within the request budget. stored: ids of the events that operations stored, which the
    endpoint or command hints when the operation is over.
    """

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    priority: Priority = Priority.PEOPLE
    stored: list[UUID] = field(default_factory=list)

    def find(self, connection_ref: UUID) -> StoredConnection:
        """The stored connection. Raises NotFound."""
        with self.database.read() as session:
            row = connections.get(session, connection_ref)
        if row is None:
            raise NotFound("connection", show(CONNECTION, connection_ref))
        return StoredConnection(
            row.id,
            row.environment,
            row.integration,
            row.connection_id,
            row.nango_id,
            row.status,
            row.auth_mode,
            row.tags,
            row.known_tags,
            row.told_expiry,
            row.observed_at,
            row.renewed_at,
        )

    def store(
        self, session: Session, events: Sequence[OwnEvent], *, environment: str, connection_ref: UUID | None = None
    ) -> None:
        """Store events of origin operator. connection_ref: the one connection of all of them, where it is known."""
        self.stored.extend(
            own_events.store(
                session,
                events,
                environment=environment,
                origin=Origin.OPERATOR,
                now=self.clock(),
                connection_ref=connection_ref,
            )
        )

    def client(self, environment: str) -> NangoClient:
        """The environment's client. Raises NotFound where it is not configured, Conflict where it has no API key."""
        if not self.clients.knows(environment):
            raise NotFound("environment", environment)
        client = self.clients.of(environment, self.priority)
        if client is None:
            raise Conflict(f"the environment {environment!r} has no API key, so Nango cannot be asked")
        return client

    def ends_at(self) -> float:
        """Deadline of an operation that begins now, on the monotonic clock."""
        return time.monotonic() + EDIT_DEADLINE.total_seconds()

    @contextmanager
    def audited(self, *, actor: str, action: str, subject: str, **detail: object) -> Iterator[AuditedAction]:
        """Write the action to the audit as begun, then as done or failed; a failure has the error's name only."""
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
        audited = AuditedAction(row, dict(detail))
        try:
            yield audited
        except WaylinkError as failed:
            with self.database.write() as session:
                audit.conclude(session, row, AuditOutcome.FAILED, audited.detail | {"error": type(failed).__name__})
            raise
        if not audited.concluded:
            with self.database.write() as session:
                audited.conclude(session)

    @contextmanager
    def exclusively(self, what: str) -> Iterator[float]:
        """Hold a lease on `what` across all processes; yields the operation's deadline, on the monotonic clock.

        A lock of the database would need a transaction that stays open during the call to Nango. Raises Conflict when
        another holder keeps the lease for longer than WAIT_SECONDS.
        """
        holder, give_up_at = new_id(), time.monotonic() + WAIT_SECONDS
        while not self._acquire(what, holder):
            if time.monotonic() >= give_up_at:
                raise Conflict("somebody else is changing this connection just now: try again", retry_after=2)
            time.sleep(_POLL_SECONDS)
        try:
            yield self.ends_at()
        finally:
            with self.database.write() as session:
                leases.give_back(session, what, holder=holder)

    def _acquire(self, what: str, holder: UUID) -> bool:
        with self.database.write() as session:
            return leases.take(session, what, holder=holder, now=self.clock(), lasts=EDIT_LEASE)


@dataclass(frozen=True, slots=True)
class FetchedConnection:
    """A connection at Nango, without its credentials. `exact`: read by its id, not from the list, which lags."""

    snapshot: Snapshot
    metadata: Mapping[str, object]
    exact: bool


def read_connection(client: NangoClient, connection: StoredConnection, *, ends_at: float) -> FetchedConnection:
    """The connection by its id, or from the list where its credentials prevent that. Raises NangoError."""
    try:
        found = client.get_connection(
            connection.integration, connection.connection_id, credentials=False, timeout=remaining(ends_at)
        )
        return FetchedConnection(snapshot_of(found), found.metadata or {}, exact=True)
    except (NangoRefreshFailed, NangoRefreshBackingOff, NangoRefreshExhausted):
        # A read by id may renew the credentials first, and fails with them; the list has tags and metadata regardless.
        return read_from_list(client, connection, ends_at=ends_at)


def read_from_list(client: NangoClient, connection: StoredConnection, *, ends_at: float) -> FetchedConnection:
    """The connection from Nango's list, which touches no credentials. Raises NangoConnectionNotFound."""
    page = client.list_connections(connection_id=connection.connection_id, timeout=remaining(ends_at))
    found = next((listed for listed in page.connections if listed.integration == connection.integration), None)
    if found is None:
        if (problem := page.may_hide(connection.integration, connection.connection_id)) is not None:
            raise NangoUnexpected(detail=problem)
        raise NangoConnectionNotFound(detail=connection.connection_id)
    return FetchedConnection(snapshot_of(found), found.metadata or {}, exact=False)


def require_same(connection: StoredConnection, fetched: FetchedConnection) -> None:
    """Raises Conflict where the ids at Nango now belong to another connection than the stored one."""
    if connection.nango_id is not None and fetched.snapshot.nango_id != connection.nango_id:
        raise Conflict(
            "the connection was deleted and made anew at Nango; what is known of it here follows its webhook",
            found={"nango_id": fetched.snapshot.nango_id},
        )


def require_not_deleted(connection: StoredConnection) -> None:
    """Raises Conflict for a deleted connection."""
    if connection.status == ConnectionStatus.DELETED:
        raise Conflict(f"{connection.shown} is deleted", found={"status": connection.status})


def remaining(ends_at: float) -> float:
    """Seconds left until the deadline. Raises NangoUnavailable when there are none."""
    left = ends_at - time.monotonic()
    if left < 0.1:
        raise NangoUnavailable(detail="it took too long")
    return left
