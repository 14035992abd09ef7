"""Statements of sweeps: the connections of an integration that one takes, and their plans."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from app.db import bulk, refreshes
from app.db.models import Connection, Refresh
from app.domain.refreshing.outcomes import MODES_WITHOUT_REFRESH
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.sweeping import REASON, swept_at
from app.domain.states import ConnectionStatus

_refreshes: Final = bulk.table(Refresh)
_connections: Final = bulk.table(Connection)


class SweptIntegration(NamedTuple):
    """An integration of an environment. since: plans of a sweep made then or later are of the same sweep."""

    environment: str
    integration: str
    since: datetime


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Connections that a sweep leaves alone, each counted up to a bound."""

    swept: int  # by the same sweep before
    not_refreshable: int  # nothing renews their credentials
    needs_reconnect: int


class ToSweep(NamedTuple):
    """A connection to renew. planned_at: when its present plan is due; None: it has none."""

    connection_ref: UUID
    planned_at: datetime | None


def choose(session: Session, which: SweptIntegration, *, limit: int) -> list[ToSweep]:
    """The connections to renew, in the order of their present plans, which a sweep does not move backwards."""
    statement = (
        select(Connection.id, Refresh.next_at)
        .outerjoin(Refresh, (Refresh.connection_ref == Connection.id) & Refresh.finished_at.is_(None))
        .where(*_of(which), _ACTIVE, _RENEWABLE, ~_swept(which))
        .order_by(Refresh.next_at.nulls_last(), Connection.id)
        .limit(limit)
    )
    return [ToSweep(*row) for row in session.execute(statement)]


def left_alone(session: Session, which: SweptIntegration, *, at_most: int) -> LeftAlone:
    """The other connections, each kind counted up to `at_most`."""

    def count(*conditions: ColumnElement[bool]) -> int:
        ids = select(Connection.id).where(*_of(which), *conditions).limit(at_most)
        return session.scalar(select(func.count()).select_from(ids.subquery())) or 0

    return LeftAlone(
        swept=count(_ACTIVE, _RENEWABLE, _swept(which)),
        not_refreshable=count(_ACTIVE, ~_RENEWABLE),
        needs_reconnect=count(Connection.status == ConnectionStatus.NEEDS_RECONNECT),
    )


def provider_of(session: Session, which: SweptIntegration) -> tuple[str | None] | None:
    """The provider of the integration's connections, by the newest one; None: it has no connection here."""
    newest = select(Connection.provider).where(*_of(which)).order_by(Connection.id.desc()).limit(1)
    row = session.execute(newest).first()
    return None if row is None else (row[0],)


def plan(session: Session, slots: Mapping[UUID, datetime], which: SweptIntegration, *, now: datetime) -> list[UUID]:
    """Plan a forced renewal of these connections at their slots, in place of what was planned.

    Returns those that are to be renewed still: active, and not swept meanwhile.
    """
    locked = _lock(session, slots, which)
    planned = {plan.connection_ref: plan for plan in _open_plans(session, locked)}
    plans = {}
    for ref in locked:
        plans[ref] = _instead(planned.get(ref), slots[ref], now=now)
    refreshes.supersede(session, locked, now=now)
    refreshes.plan(session, plans, now=now)
    return locked


def _instead(before: Any | None, slot: datetime, *, now: datetime) -> Plan:
    """The plan of a sweep in place of the one before. Its deadline stays, so that it is claimed as urgently."""
    if before is None:
        return Plan(slot, forced=True, reason=REASON)
    is_running = before.attempts > 0 and before.next_at > now
    at = swept_at(slot, planned_at=before.next_at, is_running=is_running, now=now)
    keeps = Keeps(before.keeps) if before.keeps in _KEEPS else None
    return Plan(at, forced=True, reason=REASON, deadline_at=before.deadline_at if keeps else None, keeps=keeps)


def _lock(session: Session, ids: Collection[UUID], which: SweptIntegration) -> list[UUID]:
    chosen = select(_connections.c.id).where(
        bulk.among(bulk.dialect(session), _connections.c.id), *_of(which), _ACTIVE, _RENEWABLE, ~_swept(which)
    )
    statement = chosen.order_by(_connections.c.id).with_for_update()
    return list(session.scalars(statement, bulk.keys(ids)))


def _open_plans(session: Session, refs: Sequence[UUID]) -> Sequence[Any]:
    columns = [_refreshes.c[name] for name in ("connection_ref", "next_at", "attempts", "deadline_at", "keeps")]
    mine = bulk.among(bulk.dialect(session), _refreshes.c.connection_ref)
    statement = select(*columns).where(mine, _refreshes.c.finished_at.is_(None)).with_for_update()
    return session.execute(statement, bulk.keys(refs)).all()


_KEEPS: Final = frozenset(Keeps)
_ACTIVE: Final = Connection.status == ConnectionStatus.ACTIVE
_RENEWABLE: Final = Connection.not_refreshable.is_(None) & or_(
    Connection.auth_mode.is_(None), Connection.auth_mode.not_in(sorted(MODES_WITHOUT_REFRESH))
)


def _of(which: SweptIntegration) -> tuple[ColumnElement[bool], ...]:
    return Connection.environment == which.environment, Connection.integration == which.integration


def _swept(which: SweptIntegration) -> ColumnElement[bool]:
    """Whether a plan of the same sweep is open, or came to an end."""
    plan, over = aliased(Refresh), aliased(Refresh)  # each kind has an index of its own
    is_open = plan.finished_at.is_(None)
    is_over = over.finished_at.is_not(None) & (over.created_at >= which.since)
    return or_(
        exists().where(plan.connection_ref == Connection.id, plan.reason == REASON, is_open),
        exists().where(over.connection_ref == Connection.id, over.reason == REASON, is_over),
    )
