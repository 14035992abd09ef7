"""Grants that died, with their ages, and the ages that living grants have outlived."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Select, case, func, select, text
from sqlalchemy.orm import Session, aliased

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

Place = tuple[str, str]  # environment and integration


class _Death(NamedTuple):
    """A grant's death. died_at: the first refusal since the last renewal. renewed_at, before: of the last renewals
    before it. authorized_at: of the grant that died, as stored, or by the first look at its token.
    """

    connection_ref: UUID
    environment: str
    integration: str
    died_at: datetime
    renewed_at: datetime | None
    before: datetime | None
    authorized_at: datetime | None

    @property
    def unused(self) -> timedelta | None:
        """The age since the last renewal, or the authorization; None where the grant outlived as long a time before."""
        last = self.renewed_at or self.authorized_at
        if last is None:
            return None
        age = self.died_at - last
        return None if self.before is not None and last - self.before >= _AS_LONG * age else age


def deaths(session: Session) -> dict[Place, list[GrantAges]]:
    """The newest deaths that refreshes have found: Nango gave the connection up after days of refusals.

    A grant died at the first of these. Its ages count from then.
    """
    found: dict[Place, list[GrantAges]] = {}
    seen: set[tuple[UUID, datetime]] = set()
    for row in session.execute(_deaths()):
        death = _Death(*row)
        if (death.connection_ref, death.died_at) in seen:
            continue  # found once more
        seen.add((death.connection_ref, death.died_at))
        lived = death.died_at - death.authorized_at if death.authorized_at else None
        found.setdefault((death.environment, death.integration), []).append(GrantAges(lived, death.unused))
    return found


class Living(NamedTuple):
    """The ages that grants have outlived, by integration. weight: how many connections each stands for."""

    weight: float
    ages: dict[str, list[GrantAges]]


def living(session: Session, environment: str, integrations: Sequence[str]) -> Living:
    """The ages that the grants of these integrations' living connections have outlived, of an even part of many.

    Since the authorization, or since Waylink knows them: by their last renewal. Since a renewal: the time from the last
    one to their next plan, where they have lived for longer, so that those before it were as long.
    """
    alive = (
        Connection.environment == environment,
        Connection.integration.in_(integrations),
        Connection.status == ConnectionStatus.ACTIVE,
    )
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


def _deaths() -> Select[Any]:
    """The columns of `_Death`, by one statement: each value is the newest of the connection's earlier renewals that has
    what is asked for, in the order of their ids, which `ix_refreshes_over` has.
    """
    given_up = (
        select(
            Refresh.id,
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
        .cte("given_up")
    )
    earlier = aliased(Refresh)
    renewing = earlier.outcome.in_(_RENEWING) | ((earlier.outcome == RefreshOutcome.NO_EXPIRY) & earlier.forced)

    def newest(column: Any, of: Any, *which: ColumnElement[bool]) -> ColumnElement[Any]:
        mine = select(column).where(earlier.connection_ref == of.connection_ref, earlier.finished_at.is_not(None))
        return mine.where(*which).order_by(earlier.id.desc()).limit(1).scalar_subquery()

    renewed = _once(
        select(given_up, newest(earlier.id, given_up.c, renewing, earlier.id < given_up.c.id).label("renewed_id")),
        "renewed",
    )
    first_refusal = (
        select(func.min(earlier.finished_at, type_=UtcDateTime()))
        .where(
            earlier.connection_ref == renewed.c.connection_ref,
            earlier.finished_at.is_not(None),
            earlier.outcome.in_(_FAILING),
            earlier.id < renewed.c.id,
            renewed.c.renewed_id.is_(None) | (earlier.id > renewed.c.renewed_id),
        )
        .scalar_subquery()
    )
    dead = _once(
        select(renewed, func.coalesce(first_refusal, renewed.c.finished_at, type_=UtcDateTime()).label("died_at")),
        "dead",
    )
    stored = dead.c.authorized_at
    first_seen = newest(
        earlier.finished_at, dead.c, earlier.outcome == RefreshOutcome.FIRST_SEEN, earlier.id <= dead.c.renewed_id
    )
    return select(
        dead.c.connection_ref,
        dead.c.environment,
        dead.c.integration,
        dead.c.died_at,
        newest(earlier.finished_at, dead.c, earlier.id == dead.c.renewed_id),
        newest(earlier.finished_at, dead.c, renewing, earlier.id < dead.c.renewed_id),
        case((stored < dead.c.died_at, stored), else_=first_seen),
    ).order_by(dead.c.id.desc())


def _once(statement: Select[Any], name: str) -> CTE:
    """A part whose values PostgreSQL is to compute once, although they are asked for several times."""
    return statement.cte(name).prefix_with("MATERIALIZED", dialect="postgresql")
