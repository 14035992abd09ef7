"""Connections as forecasts of their refreshes read them, and the refreshes of past hours."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, or_, select, type_coerce
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Refresh
from app.domain.refreshing.carrying import Standing
from app.domain.refreshing.clocks import NANGO_MARGIN
from app.domain.refreshing.facts import RefreshFacts
from app.domain.refreshing.lives import latest
from app.domain.states import ConnectionStatus, RefreshOutcome

_FACTS: Final = tuple(field.name for field in fields(RefreshFacts))
_PARTS: Final = 16**3  # into which the last digits of their ids divide connections evenly


@dataclass(frozen=True, slots=True)
class Population:
    """Connections of an environment that have something to renew or to lapse.

    connections: their number, those included that stand for themselves only by others. weight: how many connections
    each of `standings` stands for.
    """

    connections: int
    weight: float
    standings: list[Standing]


class Part(NamedTuple):
    """The statement over an even part of `connections`, each of which stands for `weight` of them."""

    connections: int
    weight: float
    statement: Select[Any]


def even_part(session: Session, statement: Select[Any], which: Sequence[ColumnElement[bool]], *, most: int) -> Part:
    """The statement for these connections: all of them, or of more than `most` a part, by the last digits of ids."""
    connections = session.scalar(select(func.count()).select_from(Connection).where(*which)) or 0
    parts = _PARTS if connections <= most else max(1, _PARTS * most // connections)
    statement = statement.where(*which)
    if parts < _PARTS:
        statement = statement.where(_last_digits(session) < f"{parts:03x}")
    return Part(connections, _PARTS / parts, statement)


def population(session: Session, environment: str, *, most: int) -> Population:
    """The connections with their open plans: all of them, or of more than `most` an even part."""
    mine = (Connection.environment == environment, Connection.status != ConnectionStatus.DELETED)
    open_plan = and_(Refresh.connection_ref == Connection.id, Refresh.finished_at.is_(None))
    facts = [getattr(Connection, name) for name in _FACTS]
    statement: Any = (
        select(
            Connection.id,
            Connection.integration,
            Connection.provider,
            Refresh.next_at,
            Refresh.forced,
            Refresh.failures,
            Refresh.created_at,
            Refresh.outcome,
            *facts,
        )
        .outerjoin(Refresh, open_plan)
        .where(or_(Connection.status != ConnectionStatus.NEEDS_RECONNECT, Refresh.id.is_not(None)))
    )
    part = even_part(session, statement, mine, most=most)
    return Population(part.connections, part.weight, [_standing(row) for row in session.execute(part.statement)])


def finished(session: Session, environment: str, hours: Sequence[datetime]) -> list[int]:
    """The number of planned refreshes that asked Nango in each of the hours that begin at these moments."""
    return [_finished(session, environment, hour, hour + timedelta(hours=1)) for hour in hours]


def _finished(session: Session, environment: str, since: datetime, before: datetime) -> int:
    counted = (
        select(func.count())
        .select_from(Refresh)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(
            Refresh.finished_at >= since,
            Refresh.finished_at < before,
            Refresh.requested_by.is_(None),
            Refresh.outcome != RefreshOutcome.SUPERSEDED,
            Connection.environment == environment,
        )
    )
    return session.scalar(counted) or 0


def _last_digits(session: Session) -> ColumnElement[str]:
    """The last three digits of a connection's id, which are random (RFC 9562)."""
    if bulk.dialect(session) == "postgresql":
        return func.right(cast(Connection.id, String), 3)
    return func.substr(type_coerce(Connection.id, String), 30)


def _standing(row: Any) -> Standing:
    ref, integration, provider, due_at, forced, failures, planned_at, outcome, *values = row
    facts = RefreshFacts(**dict(zip(_FACTS, values, strict=True)))
    return Standing(
        ref=ref,
        integration=integration,
        provider=provider,
        facts=facts,
        issued_at=issued_at(planned_at, facts.renewed_at or facts.authorized_at),
        failures=failures or 0,
        due_at=due_at,
        forced=bool(forced),
        planned_at=planned_at,
        waits=outcome is not None,
    )


def issued_at(planned_at: datetime | None, renewed_at: datetime | None) -> datetime | None:
    """The moment of the token's issue. renewed_at: the latest one by which it was surely issued.

    A plan is made when a look is answered: one made soon after that moment followed the look that renewed the token.
    """
    if planned_at is None or renewed_at is None or planned_at - renewed_at > NANGO_MARGIN:
        return renewed_at
    return latest((planned_at, renewed_at))
