"""Statements on dead letters that wait to be announced."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Discards

DiscardKey = tuple[str, str, str]  # team, destination, environment of the events

_KEY: Final = (Discards.team, Discards.destination, Discards.environment)


def lock(session: Session, keys: Collection[DiscardKey], *, now: datetime) -> dict[DiscardKey, Discards]:
    """The rows of these keys, locked in order. Missing ones are inserted, due at once."""
    if not keys:
        return {}
    names = ("team", "destination", "environment")
    nothing: dict[str, Any] = {"next_at": now, "since": None, "count": 0, "facts": {}}
    rows = [dict(zip(names, key, strict=True)) | nothing for key in sorted(keys)]
    session.execute(bulk.insert_for(session, Discards).values(rows).on_conflict_do_nothing())
    found = select(Discards).where(tuple_(*_KEY).in_(list(keys))).order_by(*_KEY).with_for_update()
    locked = session.scalars(found, execution_options={"populate_existing": True})
    return {(row.team, row.destination, row.environment): row for row in locked}


def any_due(session: Session, *, now: datetime) -> bool:
    """True if dead letters are due to be announced."""
    return session.scalar(_due(now).with_only_columns(Discards.team).limit(1)) is not None


def lock_due(session: Session, *, now: datetime, limit: int) -> list[Discards]:
    """Rows due to be announced, locked in order; those locked by other transactions are left out."""
    due = _due(now).order_by(*_KEY).limit(limit)
    return list(session.scalars(due.with_for_update(skip_locked=True)))


def _due(now: datetime) -> Select[Discards]:
    return select(Discards).where(Discards.count > 0, Discards.next_at <= now)
