"""Tokens and grants that will lapse, read from indexes and counted up to a bound."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.db.models import Connection, Refresh
from app.db.read.figures import AT_MOST

LATE_AT_MOST: Final = 1_000  # plans that are read


@dataclass(frozen=True, slots=True)
class Danger:
    """Connections of an integration whose token or grant (`keeps`) lapses before its turn, the first at `since`."""

    environment: str
    integration: str
    keeps: str
    count: int
    since: datetime


def before_their_turn(session: Session, *, now: datetime, leeway_seconds: float) -> list[Danger]:
    """Open plans whose turn was put off by more than the leeway beyond their deadline, which is still to come.

    LATE_AT_MOST + 1 of them are read, those with the earliest deadlines.
    """
    columns = Connection.environment, Connection.integration, Refresh.keeps, Refresh.deadline_at, Refresh.next_at
    late = (
        select(*columns)
        .join(Connection, Connection.id == Refresh.connection_ref)
        # The words of the partial index.
        .where(text("refreshes.finished_at IS NULL AND refreshes.next_at > refreshes.deadline_at"))
        .where(Refresh.deadline_at > now)
        .order_by(Refresh.deadline_at)
        .limit(LATE_AT_MOST + 1)
    )
    groups: dict[tuple[str, str, str], list[datetime]] = defaultdict(list)
    for environment, integration, keeps, deadline_at, next_at in session.execute(late):
        if deadline_at is not None and (next_at - deadline_at).total_seconds() > leeway_seconds:
            groups[environment, integration, keeps or ""].append(deadline_at)
    found = [Danger(*key, len(deadlines), min(deadlines)) for key, deadlines in groups.items()]
    return sorted(found, key=lambda one: (one.since, one.environment, one.integration))


def grants_ending(session: Session, *, now: datetime, until: datetime) -> int:
    """Active connections whose grant ends within the span and was announced to end: no renewal moves it.

    Of those that end first, AT_MOST + 1 are read.
    """
    ending = (
        select(Connection.announced_grant)
        .where(
            text("connections.status = 'active'"),
            Connection.grant_expires_at > now,
            Connection.grant_expires_at <= until,
        )
        .order_by(Connection.grant_expires_at)
        .limit(AT_MOST + 1)
        .subquery()
    )
    announced = select(func.count()).select_from(ending).where(ending.c.announced_grant.is_not(None))
    return session.scalar(announced) or 0
