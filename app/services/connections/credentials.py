"""Live credentials: from Nango through memory to a caller who may have them. They rest nowhere (promise 7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx

from app.db import refreshes as refresh_rows
from app.domain.states import RefreshOutcome
from app.errors import Conflict, InvalidInput, NangoError
from app.nango.client import NangoClient
from app.nango.credentials import Credentials, NoCredentials
from app.nango.types import ConnectionDetail
from app.services.connections.manual_refreshes import Asked, keep_failure, keep_success
from app.services.connections.operations import Act, Desk, Subject, remaining, require_not_deleted
from app.services.refreshing.answers import failed, succeeded


@dataclass(frozen=True, slots=True)
class Live:
    """The credentials of a connection, and which connection it is."""

    subject: Subject
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a forced refresh came to: `renewed`, `first_seen`, `unchanged` or `no_expiry`."""

    outcome: RefreshOutcome
    expires_at: datetime | None


def get_credentials(
    desk: Desk, connection_ref: UUID, *, actor: str, force_refresh: bool = False, refresh_token: bool = False
) -> Live:
    """The credentials as they are now; Nango renews them first where they are due, or in any case.

    Noted before they are handed out: who, when, which connection. Raises NotFound, Conflict and NangoError, those of
    refreshing among them.
    """
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)

    client = desk.client(subject.environment)
    flags = {"force_refresh": force_refresh, "refresh_token": refresh_token}
    with desk.audited(actor=actor, action="credentials.read", subject=subject.shown, **flags) as act:
        asked = Asked(subject, actor=actor, forced=force_refresh, reason="credentials were read")
        if not force_refresh:
            found, _ = _ask(desk, client, asked, act, refresh_token=refresh_token, ends_at=desk.ends_at())
            return Live(subject, found.credentials)
        with _single_flight(desk, subject) as ends_at:
            found, _ = _ask(desk, client, asked, act, refresh_token=refresh_token, ends_at=ends_at)
            return Live(subject, found.credentials)


def refresh(desk: Desk, connection_ref: UUID, *, actor: str) -> Refreshed:
    """Let Nango renew the credentials now, whenever they expire. Raises what `get_credentials` raises."""
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)
    client = desk.client(subject.environment)
    with (
        desk.audited(actor=actor, action="connection.refreshed", subject=subject.shown) as act,
        _single_flight(desk, subject) as ends_at,
    ):
        asked = Asked(subject, actor=actor, forced=True, reason="a refresh was asked for")
        found, outcome = _ask(desk, client, asked, act, ends_at=ends_at)
    return Refreshed(outcome, found.expires_at)


@contextmanager
def _single_flight(desk: Desk, subject: Subject) -> Iterator[float]:
    """One forced call at a time for a connection, a planned one included (promise 8)."""
    with desk.alone(f"refresh:{subject.shown}") as ends_at:
        with desk.database.read() as session:
            plan = refresh_rows.open_one(session, subject.ref)
        if plan is not None and plan.attempts > 0 and plan.next_at > desk.clock():
            raise Conflict("its planned refresh is under way just now: try again", retry_after=5)
        yield ends_at


def _ask(
    desk: Desk, client: NangoClient, asked: Asked, act: Act, *, ends_at: float, refresh_token: bool = False
) -> tuple[ConnectionDetail, RefreshOutcome]:
    """Ask, and keep what the answer says of expiry and errors, as a planned refresh does. Raises NangoError."""
    subject, asked_at = asked.subject, client.now()
    pair = subject.integration, subject.connection_id
    try:
        found = client.get_connection(
            *pair, force_refresh=asked.forced, refresh_token=refresh_token, timeout=remaining(ends_at)
        )
        if (
            isinstance(found.credentials, NoCredentials)
            and subject.auth_mode != "NONE"
            and not (asked.forced or refresh_token)
        ):
            # Nango leaves out without a word what the API key may not read (Nango contract: Read a connection), and who
            # asked would take that for there being none. A flag is refused with the scope that is missing.
            found = client.get_connection(*pair, refresh_token=True, timeout=remaining(ends_at))
    except (NangoError, InvalidInput, httpx.HTTPError) as problem:
        with desk.database.write() as session:
            keep_failure(session, desk, asked, failed(problem), asked_at=asked_at)
        raise
    answer = succeeded(found, previous_expires_at=subject.expires_at)
    with desk.database.write() as session:
        keep_success(session, desk, asked, answer)
        act.conclude(session)
    return found, answer.outcome
