"""Statements on ticks: when a task of Beat's ran last."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Tick

REFRESH_DUE: Final = "refresh_due"
EVENTS_PRUNED: Final = "events_pruned"  # when nothing more was to be deleted
REFRESHES_PRUNED: Final = "refreshes_pruned"
NOTIFICATIONS: Final = "notifications"  # when the checks were last looked at for notifications


def note(session: Session, name: str, *, now: datetime) -> None:
    """Record that the task runs now."""
    statement = bulk.insert_for(session, Tick).values(name=name, at=now)
    at = statement.excluded.at
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"at": at}, where=Tick.at < at))


def take(session: Session, name: str, *, now: datetime, every: timedelta) -> bool:
    """Record that the task runs now, unless one has run within this time. One of several processes gets True."""
    statement = bulk.insert_for(session, Tick).values(name=name, at=now)
    again = {"index_elements": ["name"], "set_": {"at": statement.excluded.at}, "where": Tick.at <= now - every}
    return session.execute(statement.on_conflict_do_update(**again).returning(Tick.name)).first() is not None


def last(session: Session, name: str) -> datetime | None:
    """The time of the last run; None: none is known."""
    found: datetime | None = session.scalar(select(Tick.at).where(Tick.name == name))
    return found
