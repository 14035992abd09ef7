"""Statements on the turns of integrations whose refreshes are limited."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Refresh, RefreshTurns
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.limits import Turns


def lock(session: Session, key: IntegrationKey, *, now: datetime) -> Turns:
    """The turns of an integration, locked until the transaction ends; none were given where it is new."""
    bulk.insert(session, RefreshTurns, [{**key._asdict(), "next_at": now, "held_until": now}], skip_existing=True)
    mine = RefreshTurns.environment == key.environment, RefreshTurns.integration == key.integration
    wanted = select(RefreshTurns.next_at, RefreshTurns.held_until).where(*mine).with_for_update()
    return Turns(*session.execute(wanted).one())


def save(session: Session, key: IntegrationKey, turns: Turns) -> None:
    """Write back locked turns."""
    mine = RefreshTurns.environment == key.environment, RefreshTurns.integration == key.integration
    session.execute(update(RefreshTurns).where(*mine).values(next_at=turns.next_at, held_until=turns.held_until))


def count_running(
    session: Session, key: IntegrationKey, *, but: Collection[UUID], now: datetime, lease: timedelta, at_most: int
) -> int:
    """The count of the integration's plans under a lease, `at_most`. but: plans that this transaction has claimed."""
    running = (
        select(Refresh.id)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(Connection.environment == key.environment, Connection.integration == key.integration)
        .where(Refresh.finished_at.is_(None), Refresh.next_at > now, Refresh.next_at <= now + lease)
        .where(Refresh.attempts > 0, Refresh.id.not_in(list(but)))
        .limit(at_most)
    )
    return session.scalar(select(func.count()).select_from(running.subquery())) or 0
