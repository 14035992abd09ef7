"""Statements on which signing keys are live and used. Keys go by their names (`key_name`) here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import SigningKeyUse


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A live key that signed `count` more webhooks, perhaps none."""

    environment: str
    key: str
    count: int


def add(session: Session, uses: Sequence[KeyUse], *, now: datetime) -> None:
    """Add to the row of each key. A key must not occur twice; sorted, or two web processes could deadlock."""
    if not uses:
        return
    rows = [
        {
            "environment": one.environment,
            "key": one.key,
            "count": one.count,
            "first_at": now,
            "live_at": now,
            "last_at": now if one.count else None,
        }
        for one in sorted(uses, key=lambda one: (one.environment, one.key))
    ]
    statement = bulk.insert_for(session, SigningKeyUse).values(rows)
    new = statement.excluded
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["environment", "key"],
            set_={
                "count": SigningKeyUse.count + new.count,
                "live_at": new.live_at,
                "last_at": func.coalesce(new.last_at, SigningKeyUse.last_at),
            },
        )
    )


def all_uses(session: Session) -> list[SigningKeyUse]:
    """Every key of the last days; there are a few per environment."""
    return list(session.scalars(select(SigningKeyUse).order_by(SigningKeyUse.environment, SigningKeyUse.first_at)))


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Forget keys that no web process has known as live since, at most `limit` of them."""
    key = tuple_(SigningKeyUse.environment, SigningKeyUse.key)
    old = select(SigningKeyUse.environment, SigningKeyUse.key).where(SigningKeyUse.live_at < before).limit(limit)
    rows = [tuple(row) for row in session.execute(old)]
    if rows:
        # The time again: a web process may have found it live meanwhile.
        statement = delete(SigningKeyUse).where(key.in_(rows), SigningKeyUse.live_at < before)
        session.execute(statement.execution_options(synchronize_session=False))
    return len(rows)
