"""Statements on connections that are kept alive only, and on plans that fall back or return."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db import connections as connection_rows
from app.db import refreshes as refresh_rows
from app.db.connections import ConnectionState
from app.db.models import Connection, Refresh
from app.domain.refreshing.keeping import AliveBy, GroupKey
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.states import ConnectionStatus

CHUNK = 500  # plans of one transaction

_GROUP = (Connection.environment, Connection.integration, Connection.provider)


def due(session: Session, environments: Collection[str], *, until: datetime) -> dict[GroupKey, tuple[int, int]]:
    """Plans that are due until then, by group: all of them, and those that may fall back."""
    counted = func.sum(case((_movable(), 1), else_=0))
    rows = session.execute(
        select(*_GROUP, func.count(), counted)
        .select_from(Refresh)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(Refresh.finished_at.is_(None), Refresh.next_at <= until, Connection.environment.in_(environments))
        .group_by(*_GROUP)
    )
    return {GroupKey(*row[:3]): (row[3], int(row[4])) for row in rows}


def alive(
    session: Session, environments: Collection[str] | None = None, *, at_most: int | None = None
) -> dict[GroupKey, int]:
    """Connections that have fallen back for want of budget, by group. environments: None is all.

    at_most: of all groups together; None counts them to the end.
    """
    fallen = select(*_GROUP).where(Connection.alive_by == AliveBy.BUDGET).limit(at_most)
    if environments is not None:
        fallen = fallen.where(Connection.environment.in_(environments))
    found = fallen.subquery()
    rows = session.execute(select(*found.c, func.count()).group_by(*found.c))
    return {GroupKey(*row[:3]): row[3] for row in rows}


def lock_falling(session: Session, key: GroupKey, *, until: datetime, limit: int) -> list[tuple[UUID, ConnectionState]]:
    """Plans of the group that may fall back, with their connections, locked: those of the highest numbers first."""
    return _lock(
        session,
        select(Refresh.id, Refresh.connection_ref)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(*_is(key), Refresh.finished_at.is_(None), Refresh.next_at <= until, _movable())
        .order_by(Connection.slot.desc().nulls_first(), Connection.id)
        .limit(limit),
    )


def lock_returning(session: Session, key: GroupKey, *, limit: int) -> list[tuple[UUID, ConnectionState]]:
    """Open plans of connections of the group that are kept alive for want of budget: the lowest numbers first."""
    return _lock(
        session,
        select(Refresh.id, Refresh.connection_ref)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(*_is(key), Connection.alive_by == AliveBy.BUDGET, Refresh.finished_at.is_(None))
        .order_by(Connection.slot, Connection.id)
        .limit(limit),
    )


def move(session: Session, plans: Mapping[UUID, Plan], connections: Sequence[ConnectionState]) -> None:
    """Move open plans, unless they are running by now, and write what their connections are kept as."""
    rows = [
        {"id": refresh_id, **refresh_rows.columns_of(plan), "outcome": None, "error": None}
        for refresh_id, plan in plans.items()
    ]
    bulk.update(session, Refresh, rows, only="finished_at IS NULL AND refreshes.attempts = 0")
    bulk.update(session, Connection, [{"id": row.id, "alive_by": row.alive_by} for row in connections])


def _lock(session: Session, statement: Any) -> list[tuple[UUID, ConnectionState]]:
    found = [(row[0], row[1]) for row in session.execute(statement)]
    locked = connection_rows.lock_by_ids(session, [ref for _, ref in found])
    return [(refresh_id, locked[ref]) for refresh_id, ref in found if ref in locked]


def _movable() -> ColumnElement[bool]:
    """A renewal of a token that no worker has claimed."""
    return and_(Refresh.keeps == Keeps.TOKEN, Refresh.attempts == 0, Connection.status == ConnectionStatus.ACTIVE)


def _is(key: GroupKey) -> tuple[ColumnElement[bool], ...]:
    return (
        Connection.environment == key.environment,
        Connection.integration == key.integration,
        Connection.provider.is_not_distinct_from(key.provider),
    )
