"""Statements on refused webhooks, counted by minute, environment and cause."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import case, delete, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Rejection
from app.domain.nango_breaker import WINDOW

RejectionKey = tuple[datetime, str, str]  # minute, environment, cause
_row_key: Final = tuple_(Rejection.minute, Rejection.environment, Rejection.cause)


@dataclass(frozen=True, slots=True)
class RefusalCount:
    """`count` refused requests of one environment and cause; the other fields are those of the last one."""

    environment: str
    cause: str
    status: int
    count: int
    at: datetime
    peer: str
    detail: str


def add(session: Session, refused: Sequence[RefusalCount]) -> None:
    """Add to the row of each minute, environment and cause. A pair of the latter two must not occur twice.

    The database adds up and finds the peak, so that several web processes make one sum. Rows are written in sorted
    order, which prevents deadlocks. Windows are fixed tens of seconds; a burst across two of them counts less.
    """
    if not refused:
        return
    statement = bulk.insert_for(session, Rejection).values(sorted(map(_row, refused), key=_key))
    new = statement.excluded
    same = Rejection.window_at == new.window_at
    window_count = case((same, Rejection.window_count + new.window_count), else_=new.window_count)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["minute", "environment", "cause"],
            set_={
                "status": new.status,
                "count": Rejection.count + new.count,
                "peak": case((window_count > Rejection.peak, window_count), else_=Rejection.peak),
                "window_at": new.window_at,
                "window_count": window_count,
                "last_at": new.last_at,
                "last_peer": new.last_peer,
                "last_detail": new.last_detail,
            },
        )
    )


def newest(
    session: Session,
    *,
    since: datetime,
    until: datetime | None = None,
    environment: str | None = None,
    cause: str | None = None,
    limit: int | None = None,
    before: RejectionKey | None = None,
) -> list[Rejection]:
    """Rows of minutes from `since` on and before `until`, newest first; after that with the key `before`, if given."""
    statement = select(Rejection).where(Rejection.minute >= since)
    if until is not None:
        statement = statement.where(Rejection.minute < until)
    if environment is not None:
        statement = statement.where(Rejection.environment == environment)
    if cause is not None:
        statement = statement.where(Rejection.cause == cause)
    if before is not None:
        statement = statement.where(_row_key < before)
    order = (Rejection.minute.desc(), Rejection.environment.desc(), Rejection.cause.desc())
    return list(session.scalars(statement.order_by(*order).limit(limit)))


def shown(rejection: Rejection) -> dict[str, Any]:
    """A rejection in its public form."""
    return {
        "minute": rejection.minute.isoformat(),
        "environment": rejection.environment or None,
        "cause": rejection.cause,
        "status": rejection.status,
        "count": rejection.count,
        "peak": rejection.peak,
        "last_at": rejection.last_at.isoformat(),
        "last_peer": rejection.last_peer,
        "last_detail": rejection.last_detail,
    }


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` rows of minutes before that time."""
    old = select(Rejection.minute, Rejection.environment, Rejection.cause).where(Rejection.minute < before).limit(limit)
    rows = [tuple(row) for row in session.execute(old)]
    if rows:
        session.execute(delete(Rejection).where(_row_key.in_(rows)).execution_options(synchronize_session=False))
    return len(rows)


def minute_of(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _row(refused: RefusalCount) -> dict[str, Any]:
    tens = int(WINDOW.total_seconds())
    return {
        "minute": minute_of(refused.at),
        "environment": refused.environment,
        "cause": refused.cause,
        "status": refused.status,
        "count": refused.count,
        "peak": refused.count,
        "window_at": refused.at.replace(second=refused.at.second // tens * tens, microsecond=0),
        "window_count": refused.count,
        "last_at": refused.at,
        "last_peer": refused.peer,
        "last_detail": refused.detail,
    }


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["minute"], row["environment"], row["cause"]
