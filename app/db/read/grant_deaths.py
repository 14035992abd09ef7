"""Grants that died, with their ages, and the ages that living grants have outlived."""

from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.db.models import Connection, Refresh
from app.db.read.refresh_figures import even_part
from app.db.types import UtcDateTime
from app.domain.refreshing.learning import GrantAges
from app.domain.states import ConnectionStatus, RefreshOutcome

NEWEST: Final = 2_000  # deaths that are looked at
LIVING: Final = 20_000  # connections whose ages are looked at
_FAILING: Final = (RefreshOutcome.FAILED, RefreshOutcome.BACKING_OFF, RefreshOutcome.EXHAUSTED)
_RENEWING: Final = (RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN)
_AS_LONG: Final = 0.9
_ATTEMPTS: Final = 50  # of one connection, from its death back to the last success

Place = tuple[str, str]  # environment and integration


class _Death(NamedTuple):
    connection_ref: UUID
    environment: str
    integration: str
    authorized_at: datetime | None
    finished_at: datetime


class _End(NamedTuple):
    """The moment of a death, and the last renewals before it."""

    died_at: datetime
    renewed_at: datetime | None = None
    before: datetime | None = None

    def unused(self, authorized_at: datetime | None) -> timedelta | None:
        """The age since the last renewal, or the authorization; None where the grant outlived as long a time before."""
        last = self.renewed_at or authorized_at
        if last is None:
            return None
        age = self.died_at - last
        return None if self.before is not None and last - self.before >= _AS_LONG * age else age


def deaths(session: Session) -> dict[Place, list[GrantAges]]:
    """The newest deaths that refreshes have found: Nango gave the connection up after days of refusals.

    A grant died at the first of these. Its ages count from then.
    """
    given_up: Any = (
        select(
            Refresh.connection_ref,
            Connection.environment,
            Connection.integration,
            Connection.authorized_at,
            Refresh.finished_at,
        )
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(text("refreshes.outcome = 'exhausted'"), Refresh.requested_by.is_(None))
        .order_by(Refresh.id.desc())
        .limit(NEWEST)
    )
    found: dict[Place, list[GrantAges]] = {}
    seen: set[tuple[UUID, datetime]] = set()
    for row in session.execute(given_up).all():
        death = _Death(*row)
        end = _end(session, death)
        if (death.connection_ref, end.died_at) in seen:
            continue  # found once more
        seen.add((death.connection_ref, end.died_at))
        authorized_at = _authorized_at(session, death, end.died_at)
        ages = GrantAges(end.died_at - authorized_at if authorized_at else None, end.unused(authorized_at))
        found.setdefault((death.environment, death.integration), []).append(ages)
    return found


class Living(NamedTuple):
    """The ages that grants have outlived, by integration. weight: how many connections each stands for."""

    weight: float
    ages: dict[str, list[GrantAges]]


def living(session: Session, environment: str) -> Living:
    """The ages that the grants of living connections have outlived, of an even part of them in a large environment.

    Since the authorization, or since Waylink knows them: by their last renewal. Since a renewal: the time from the last
    one to their next plan, where they have lived for longer, so that those before it were as long.
    """
    alive = (Connection.environment == environment, Connection.status == ConnectionStatus.ACTIVE)
    columns: Any = select(
        Connection.integration,
        Connection.renewed_at,
        func.coalesce(Connection.authorized_at, Connection.created_at, type_=UtcDateTime()),
        Connection.last_error_type,
        Refresh.refresh_at,
    ).outerjoin(Refresh, (Refresh.connection_ref == Connection.id) & Refresh.finished_at.is_(None))
    part = even_part(session, columns, alive, most=LIVING)
    found: dict[str, list[GrantAges]] = {}
    for integration, renewed_at, known_at, error, refresh_at in session.execute(part.statement):
        if renewed_at is None or renewed_at <= known_at or error is not None:
            continue
        lived = renewed_at - known_at
        between = refresh_at - renewed_at if refresh_at is not None else None
        found.setdefault(integration, []).append(GrantAges(lived, between if between and between < lived else None))
    return Living(part.weight, found)


def has_other(session: Session, environment: str) -> bool:
    """Whether there are connections of another environment."""
    found = (
        select(Connection.id).where(side).limit(1)
        for side in (Connection.environment < environment, Connection.environment > environment)
    )
    return any(session.scalar(one) is not None for one in found)


def _end(session: Session, death: _Death) -> "_End":
    """The first refusal since the last renewal, with the two renewals before it, as far as they were seen."""
    attempts: Any = (
        select(Refresh.outcome, Refresh.forced, Refresh.finished_at)
        .where(Refresh.connection_ref == death.connection_ref, Refresh.finished_at <= death.finished_at)
        .order_by(Refresh.finished_at.desc())
        .limit(_ATTEMPTS)
    )
    died_at, renewals = death.finished_at, list[datetime]()
    for outcome, forced, finished_at in session.execute(attempts).all():
        if outcome in _RENEWING or (outcome == RefreshOutcome.NO_EXPIRY and forced):
            renewals.append(finished_at)
        elif outcome in _FAILING and not renewals:
            died_at = finished_at
        if len(renewals) == 2:
            break
    return _End(died_at, *renewals)


def _authorized_at(session: Session, death: _Death, died_at: datetime) -> datetime | None:
    """The moment when the grant that died was authorized: as stored, or by the first look at its token."""
    if death.authorized_at is not None and death.authorized_at < died_at:
        return death.authorized_at
    return session.scalar(
        select(func.max(Refresh.finished_at)).where(
            Refresh.connection_ref == death.connection_ref,
            Refresh.outcome == RefreshOutcome.FIRST_SEEN,
            Refresh.finished_at < died_at,
        )
    )
