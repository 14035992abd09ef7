"""Connections as forecasts of their refreshes read them, and the refreshes of past hours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, or_, select, type_coerce
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Refresh
from app.domain.refreshing.carrying import Standing
from app.domain.refreshing.clocks import NANGO_MARGIN, told_expiry
from app.domain.refreshing.lives import ClockSource, latest
from app.domain.refreshing.outcomes import TOKEN_EXPIRED
from app.domain.states import ConnectionStatus, RefreshOutcome

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
    statement: Any = (
        select(
            Connection.integration,
            Connection.provider,
            Connection.auth_mode,
            Connection.id,
            Connection.slot,
            Connection.expires_at,
            Connection.expires_source,
            Connection.renewed_at,
            Connection.authorized_at,
            Connection.grant_expires_at,
            Connection.grant_source,
            Connection.not_refreshable,
            Connection.last_error_type,
            Refresh.next_at,
            Refresh.forced,
            Refresh.failures,
            Refresh.created_at,
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
    return Standing(
        integration=row.integration,
        provider=row.provider,
        auth_mode=row.auth_mode or "",
        identity=row.id.hex,
        slot=row.slot,
        expires_at=told_expiry(row.expires_at, row.expires_source),
        was_read=row.expires_source is not None or row.expires_at is not None,
        issued_at=_issued_at(row.created_at, row.renewed_at or row.authorized_at),
        renewed_at=row.renewed_at,
        authorized_at=row.authorized_at,
        grant_at=row.grant_expires_at,
        grant_source=ClockSource(row.grant_source) if row.grant_source else None,
        refreshable=row.not_refreshable is None,
        lapsed=row.last_error_type == TOKEN_EXPIRED,
        failures=row.failures or 0,
        due_at=row.next_at,
        forced=bool(row.forced),
    )


def _issued_at(planned_at: datetime | None, renewed_at: datetime | None) -> datetime | None:
    """The moment of the token's issue. renewed_at: the latest one by which it was surely issued.

    A plan is made when a look is answered: one made soon after that moment followed the look that renewed the token.
    """
    if planned_at is None or renewed_at is None or planned_at - renewed_at > NANGO_MARGIN:
        return renewed_at
    return latest((planned_at, renewed_at))
