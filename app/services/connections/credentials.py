"""Live credentials, fetched from Nango for each call and stored nowhere (promise 7).

Opens short transactions, none while Nango is asked.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx

from app.db import refreshes as refresh_rows
from app.domain.refreshing import outages
from app.domain.states import RefreshOutcome
from app.errors import Conflict, InvalidInput, NangoError
from app.nango.client import NangoClient
from app.nango.credentials import Credentials, NoCredentials
from app.nango.types import ConnectionDetail
from app.services.connections.manual_refreshes import ManualRefresh, record_failure, record_success
from app.services.connections.operations import (
    AuditedAction,
    Operations,
    StoredConnection,
    remaining,
    require_not_deleted,
)
from app.services.refreshing.outage_watch import answered
from app.services.refreshing.refresh_results import failed, succeeded


@dataclass(frozen=True, slots=True)
class FetchedCredentials:
    """Credentials of a connection, with the connection they belong to."""

    connection: StoredConnection
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class RefreshResult:
    """Result of a forced refresh: `renewed`, `first_seen`, `not_refreshable` or `no_expiry`."""

    outcome: RefreshOutcome
    expires_at: datetime | None


def get_credentials(
    operations: Operations,
    connection_ref: UUID,
    *,
    actor: str,
    force_refresh: bool = False,
    refresh_token: bool = False,
) -> FetchedCredentials:
    """The current credentials; Nango renews them first where they are due, or always with `force_refresh`.

    The audit has the call before the credentials are returned. Raises NotFound, Conflict and NangoError, including the
    errors of a failed refresh.
    """
    connection = operations.find(connection_ref)
    require_not_deleted(connection)

    client = operations.client(connection.environment)
    flags = {"force_refresh": force_refresh, "refresh_token": refresh_token}
    with operations.audited(actor=actor, action="credentials.read", subject=connection.shown, **flags) as audited:
        manual = ManualRefresh(connection, actor=actor, forced=force_refresh, reason="credentials were read")
        if not force_refresh:
            found, _ = _ask(
                operations, client, manual, audited, refresh_token=refresh_token, ends_at=operations.ends_at()
            )
            return FetchedCredentials(connection, found.credentials)
        with _single_flight(operations, connection) as ends_at:
            found, _ = _ask(operations, client, manual, audited, refresh_token=refresh_token, ends_at=ends_at)
            return FetchedCredentials(connection, found.credentials)


def refresh(operations: Operations, connection_ref: UUID, *, actor: str, forced: bool = True) -> RefreshResult:
    """Have Nango renew the credentials now: whatever their expiry, or, unless forced, where they are due.

    Raises what `get_credentials` raises.
    """
    connection = operations.find(connection_ref)
    require_not_deleted(connection)
    client = operations.client(connection.environment)
    with (
        operations.audited(
            actor=actor, action="connection.refreshed", subject=connection.shown, forced=forced
        ) as audited,
        _single_flight(operations, connection) as ends_at,
    ):
        manual = ManualRefresh(
            connection, actor=actor, forced=forced, reason="a refresh was asked for", is_renewal=True
        )
        found, outcome = _ask(operations, client, manual, audited, ends_at=ends_at)
    return RefreshResult(outcome, found.expires_at)


@contextmanager
def _single_flight(operations: Operations, connection: StoredConnection) -> Iterator[float]:
    """Allow one forced call per connection at a time, planned refreshes included (promise 8)."""
    with operations.exclusively(f"refresh:{connection.shown}") as ends_at:
        with operations.database.read() as session:
            plan = refresh_rows.open_plan(session, connection.ref)
        if plan is not None and plan.attempts > 0 and plan.next_at > operations.clock():
            raise Conflict("its planned refresh is under way just now: try again", retry_after=5)
        yield ends_at


def _ask(
    operations: Operations,
    client: NangoClient,
    manual: ManualRefresh,
    audited: AuditedAction,
    *,
    ends_at: float,
    refresh_token: bool = False,
) -> tuple[ConnectionDetail, RefreshOutcome]:
    """Read the connection, and record expiry and errors as a planned refresh does. Raises NangoError."""
    connection, asked_at = manual.connection, client.now()
    pair = connection.integration, connection.connection_id
    try:
        found = client.get_connection(
            *pair, force_refresh=manual.forced, refresh_token=refresh_token, timeout=remaining(ends_at)
        )
        if (
            isinstance(found.credentials, NoCredentials)
            and connection.auth_mode != "NONE"
            and not (manual.forced or refresh_token)
        ):
            # Nango silently leaves out what the API key may not read (Nango contract: Read a connection), which would
            # look as if the connection had no credentials. A request with a flag is refused, naming the missing scope.
            found = client.get_connection(*pair, refresh_token=True, timeout=remaining(ends_at))
    except (NangoError, InvalidInput, httpx.HTTPError) as problem:
        answer = failed(problem, asked_at=asked_at, answered_at=client.now())
        with operations.database.write() as session:
            record_failure(session, operations, manual, answer)
        raise
    answer = succeeded(
        found,
        asked_at=found.observed_at,
        answered_at=client.now(),
        previous_expires_at=connection.expires_at,
        was_forced=manual.forced,
        renewed_at=connection.renewed_at,
    )
    with operations.database.write() as session:
        record_success(session, operations, manual, answer)
        audited.conclude(session)
    if outages.tally(answer.outcome, was_forced=manual.forced, failing_before=False).renewed:
        named = connection.environment, connection.integration
        answered(operations.database, *named, asked_at=asked_at, now=operations.clock())
    return found, answer.outcome
