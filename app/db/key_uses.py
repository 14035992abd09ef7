"""Statements on the live signing keys and their use. Keys are stored by name (`key_name`), never by value."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import SigningKeyUse


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A live key and the number of webhooks that it signed since the last write, perhaps 0."""

    environment: str
    key: str
    count: int


def add(session: Session, uses: Sequence[KeyUse], *, now: datetime) -> None:
    """Add to the keys' rows. Each key at most once; written in order, as two web processes could deadlock otherwise."""
    if not uses:
        return
    rows = [
        {
            "environment": use.environment,
            "key": use.key,
            "count": use.count,
            "first_at": now,
            "live_at": now,
            "last_at": now if use.count else None,
        }
        for use in sorted(uses, key=lambda use: (use.environment, use.key))
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
    """All keys that were live in the last days, a few per environment."""
    return list(session.scalars(select(SigningKeyUse).order_by(SigningKeyUse.environment, SigningKeyUse.first_at)))


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` keys that were not live since `before`. Returns their number."""
    key = tuple_(SigningKeyUse.environment, SigningKeyUse.key)
    old = select(SigningKeyUse.environment, SigningKeyUse.key).where(SigningKeyUse.live_at < before).limit(limit)
    rows = [tuple(row) for row in session.execute(old)]
    if rows:
        # The condition again, as a web process may have found the key live since.
        statement = delete(SigningKeyUse).where(key.in_(rows), SigningKeyUse.live_at < before)
        session.execute(statement.execution_options(synchronize_session=False))
    return len(rows)
