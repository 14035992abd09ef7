"""Live credentials: from Nango through memory to a caller who may have them. They rest nowhere (promise 7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db.models import Refresh
from app.domain.refresh import classify
from app.domain.states import Origin, RefreshOutcome
from app.errors import Conflict, NangoError, NangoRefreshExhausted, NangoRefreshFailed
from app.nango.client import NangoClient
from app.nango.credentials import Credentials, NoCredentials
from app.nango.types import ConnectionDetail
from app.services import own_events
from app.services.looking import view_of
from app.services.operations.desk import Act, Desk, Subject, remaining, require_not_deleted


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a forced refresh came to: `renewed`, `unchanged` or `no_expiry`."""

    outcome: RefreshOutcome
    expires_at: datetime | None


def get_credentials(
    desk: Desk, connection_ref: UUID, *, actor: str, force_refresh: bool = False, refresh_token: bool = False
) -> Credentials:
    """The credentials as they are now; Nango renews them first where they are due, or in any case.

    Noted before they are handed out: who, when, which connection. Raises NotFound, Conflict and NangoError, those of
    refreshing among them.
    """
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)

    client = desk.client(subject.environment)
    flags = {"force_refresh": force_refresh, "refresh_token": refresh_token}
    with desk.audited(actor=actor, action="credentials.read", subject=subject.shown, **flags) as act:
        if not force_refresh:
            return _ask(desk, client, subject, act, refresh_token=refresh_token, ends_at=desk.ends_at()).credentials
        with _single_flight(desk, subject) as ends_at:
            found = _ask(desk, client, subject, act, force=True, refresh_token=refresh_token, ends_at=ends_at)
            return found.credentials


def refresh(desk: Desk, connection_ref: UUID, *, actor: str) -> Refreshed:
    """Let Nango renew the credentials now, whenever they expire. Raises what `get_credentials` raises."""
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)
    client = desk.client(subject.environment)
    with (
        desk.audited(actor=actor, action="connection.refreshed", subject=subject.shown) as act,
        _single_flight(desk, subject) as ends_at,
    ):
        found = _ask(desk, client, subject, act, force=True, ends_at=ends_at)
    outcome = classify(previous_expires_at=subject.expires_at, expires_at=found.expires_at)
    return Refreshed(outcome, found.expires_at)


@contextmanager
def _single_flight(desk: Desk, subject: Subject) -> Iterator[float]:
    """One forced call at a time for a connection, a planned one included (promise 8)."""
    with desk.alone(f"refresh:{subject.shown}") as ends_at:
        with desk.database.read() as session:
            plan = session.scalar(
                select(Refresh).where(Refresh.connection_ref == subject.ref, Refresh.finished_at.is_(None))
            )
        if plan is not None and plan.attempts > 0 and plan.next_at > desk.clock():
            raise Conflict("its planned refresh is under way just now: try again", retry_after=5)
        yield ends_at


def _ask(
    desk: Desk,
    client: NangoClient,
    subject: Subject,
    act: Act,
    *,
    ends_at: float,
    force: bool = False,
    refresh_token: bool = False,
) -> ConnectionDetail:
    """Ask, and keep what the answer says of expiry and errors, as a planned refresh does."""
    asked_at = client.now()
    pair = subject.integration, subject.connection_id
    try:
        found = client.get_connection(
            *pair, force_refresh=force, refresh_token=refresh_token, timeout=remaining(ends_at)
        )
        if (
            isinstance(found.credentials, NoCredentials)
            and subject.auth_mode != "NONE"
            and not (force or refresh_token)
        ):
            # Nango leaves out without a word what the API key may not read (CONTRACT 3.2), and who asked would take
            # that for there being none. A flag is refused with the scope that is missing.
            found = client.get_connection(*pair, refresh_token=True, timeout=remaining(ends_at))
    except (NangoRefreshFailed, NangoRefreshExhausted) as failed:
        with desk.database.write() as session:
            _keep_failure(session, subject, asked_at, failed, now=desk.clock())
        raise
    with desk.database.write() as session:
        _keep(session, subject, asked_at, found, now=desk.clock())
        act.conclude(session)
    return found


def _keep_failure(session: Session, subject: Subject, asked_at: datetime, failed: NangoError, *, now: datetime) -> None:
    row = connection_rows.lock_one(session, subject.ref)
    if row is None or row.nango_id != subject.nango_id:
        return
    if row.errors_seen_at is None or row.errors_seen_at <= asked_at:
        row.errors_seen_at, row.last_error_type, row.last_error_at = asked_at, type(failed).__name__, now
    row.updated_at = now
    connection_rows.update(session, [row])


def _keep(session: Session, subject: Subject, asked_at: datetime, found: ConnectionDetail, *, now: datetime) -> None:
    """The expiry here; what else is new, such as that an error is over, by an event, which the teams are told of."""
    row = connection_rows.lock_one(session, subject.ref)
    if row is None:
        return
    news = own_events.news_in(row, view_of(found), asked_at=asked_at)
    if row.nango_id == subject.nango_id:
        row.expires_at, row.updated_at = found.expires_at, now
        connection_rows.update(session, [row])
    own_events.store(
        session, news, environment=row.environment, origin=Origin.OPERATOR, now=now, connection_ref=subject.ref
    )
