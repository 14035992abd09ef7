"""Statements on stored forecasts of refreshes, one for each environment and day."""

from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import RefreshForecast


def days_kept(session: Session, day: str) -> dict[str, dict[str, Any]]:
    """The policies with which the forecasts of this day were stored, by environment."""
    statement = select(RefreshForecast.environment, RefreshForecast.tables).where(RefreshForecast.day == day)
    return {row.environment: row.tables for row in session.execute(statement)}


def add(
    session: Session,
    environment: str,
    day: str,
    *,
    made_at: datetime,
    starts_at: datetime,
    hours: list[int],
    tables: dict[str, Any],
) -> int:
    """Store a forecast, unless another process has stored that of this day. Returns the count of stored ones."""
    row = {
        "environment": environment,
        "day": day,
        "made_at": made_at,
        "starts_at": starts_at,
        "hours": hours,
        "tables": tables,
    }
    return bulk.insert(session, RefreshForecast, [row], skip_existing=True)


def set_tables(session: Session, environment: str, day: str, tables: dict[str, Any]) -> None:
    """Note other policies that have come into force since the day's forecast."""
    found = session.get(RefreshForecast, (environment, day))
    if found is not None:
        found.tables = tables


def newest(session: Session, environment: str, *, before: datetime | None = None) -> RefreshForecast | None:
    """The newest forecast, or the newest one whose hours began by then."""
    statement = select(RefreshForecast).where(RefreshForecast.environment == environment)
    if before is not None:
        statement = statement.where(RefreshForecast.starts_at <= before)
    return session.scalar(statement.order_by(RefreshForecast.day.desc()).limit(1))


def tables_in_force(session: Session) -> dict[str, Any] | None:
    """The refresh policies with which the newest forecast was stored; None: no forecast was stored yet."""
    newest_first = select(RefreshForecast.tables).order_by(RefreshForecast.day.desc(), RefreshForecast.made_at.desc())
    return session.scalar(newest_first.limit(1))


def prune(session: Session, *, before: str, limit: int) -> int:
    """Delete up to `limit` forecasts of days before this one. Returns their number."""
    old = select(RefreshForecast.environment, RefreshForecast.day).where(RefreshForecast.day < before).limit(limit)
    gone = session.execute(old).all()
    for environment, day in gone:
        session.execute(
            delete(RefreshForecast).where(RefreshForecast.environment == environment, RefreshForecast.day == day)
        )
    return len(gone)
