"""Figures of refreshes that are late, by integration, each read from an index and bounded."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Select, Subquery, func, or_, select
from sqlalchemy.orm import Session

from app.db.models import Connection, Refresh, RefreshPause, RefreshWindow
from app.domain.refreshing.lives import ClockSource
from app.domain.refreshing.outages import WINDOW
from app.domain.refreshing.renewal import OVERDUE
from app.domain.states import ConnectionStatus, RefreshOutcome

OVERDUE_AT_MOST: Final = 1_000  # plans that are read, each with its connection, at 20 µs where that table is large
LAPSED_AT_MOST: Final = 1_000  # likewise connections, each with its plan
LAPSED: Final = timedelta(seconds=20)  # after the expiry: a renewal that is under way ends within it
# Outcomes of plans that were tried and wait: each has a moment of its own to be tried again.
_HELD: Final = sorted(
    {RefreshOutcome.RATE_LIMITED, RefreshOutcome.PAUSED, RefreshOutcome.NANGO_DOWN, RefreshOutcome.WAITED}
)


@dataclass(frozen=True, slots=True)
class LateGroup:
    """Connections of one integration and provider that are late.

    since: the planned moment, or the expiry, of the first. count: of all groups together, up to the bound and one
    more.
    """

    environment: str
    integration: str
    provider: str | None
    count: int
    since: datetime


def overdue(session: Session, *, now: datetime) -> list[LateGroup]:
    """Plans that have been due for longer than OVERDUE, and were not held back; the most overdue group first."""
    late = (
        select(*_NAMES, Refresh.refresh_at.label("since"))
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(
            Refresh.finished_at.is_(None),
            Refresh.next_at < now - OVERDUE,
            or_(Refresh.outcome.is_(None), Refresh.outcome.not_in(_HELD)),
            Connection.status != ConnectionStatus.DELETED,
        )
        .order_by(Refresh.next_at)
        .limit(OVERDUE_AT_MOST + 1)
    )
    return _grouped(session, late.subquery())


def lapsed(session: Session, *, now: datetime) -> list[LateGroup]:
    """Active connections whose token has expired, as Nango knows it, and which nothing renews, or too late.

    Left out are those that the provider refuses, which are tried again, and those whose plan is to come, as the hours
    of a policy have it, or that are kept alive only. Of expired tokens those that expired first are read:
    LAPSED_AT_MOST and one more without an error, and as many with one.
    """
    late = now - LAPSED
    groups: dict[tuple[str, str, str | None], LateGroup] = {}
    for has_error in (False, True):
        expired = _expired(late, has_error=has_error).subquery()
        no_plan, is_late = Refresh.id.is_(None), or_(Refresh.outcome.is_not(None), Refresh.next_at < late)
        found = (
            select(expired.c.environment, expired.c.integration, expired.c.provider, expired.c.since)
            .outerjoin(Refresh, (Refresh.connection_ref == expired.c.id) & Refresh.finished_at.is_(None))
            .where(no_plan if has_error else or_(no_plan, is_late))
        )
        for one in _grouped(session, found.subquery()):
            key = one.environment, one.integration, one.provider
            other = groups.get(key, replace(one, count=0))
            groups[key] = replace(one, count=one.count + other.count, since=min(one.since, other.since))
    return sorted(groups.values(), key=lambda one: (one.since, one.environment, one.integration, one.provider or ""))


def _expired(late: datetime, *, has_error: bool) -> Select[Any]:
    """The columns that the index has come first, so that it passes over what is left out."""
    error = Connection.last_error_type
    found: Any = (
        select(Connection.id, *_NAMES, Connection.expires_at.label("since"))
        .where(
            Connection.status == ConnectionStatus.ACTIVE,
            Connection.expires_at < late,
            Connection.alive_by.is_(None),
            error.is_not(None) if has_error else error.is_(None),
            or_(Connection.expires_source.is_(None), Connection.expires_source == ClockSource.PROVIDER),
        )
        .order_by(Connection.expires_at)
        .limit(LAPSED_AT_MOST + 1)
    )
    return cast("Select[Any]", found)


def paused(session: Session) -> list[tuple[str, str]]:
    """Environment and integration of each pause."""
    found = select(RefreshPause.environment, RefreshPause.integration)
    return [(row[0], row[1]) for row in session.execute(found.order_by(*found.selected_columns))]


def results(session: Session, *, now: datetime, limit: int) -> list[tuple[str, str, int, int]]:
    """Environment and integration, with the connections that were renewed, and that began to fail, within the present
    window and the one before; those with most failures first.
    """
    renewed, failed = RefreshWindow.renewed, RefreshWindow.failed
    renewed_before, failed_before = RefreshWindow.renewed_before, RefreshWindow.failed_before
    found = select(
        RefreshWindow.environment, RefreshWindow.integration, renewed + renewed_before, failed + failed_before
    )
    recent = found.where(RefreshWindow.began_at > now - 2 * WINDOW)
    rows = session.execute(recent.order_by((failed + failed_before).desc(), RefreshWindow.integration).limit(limit))
    return [(row[0], row[1], row[2], row[3]) for row in rows]


_NAMES: Final = (Connection.environment, Connection.integration, Connection.provider)


def _grouped(session: Session, late: Subquery) -> list[LateGroup]:
    names = late.c.environment, late.c.integration, late.c.provider
    since = func.min(late.c.since)
    statement: Select[Any] = select(*names, func.count(), since).group_by(*names).order_by(since, *names)
    return [LateGroup(*row) for row in session.execute(statement)]
