"""Statements on leases: named locks that need no open transaction and end by time."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Lease


def take(session: Session, name: str, *, holder: UUID, now: datetime, lasts: timedelta) -> bool:
    """Take a lease that is free or has ended. False while it is held."""
    statement = bulk.insert_for(session, Lease).values(name=name, holder=holder, until_at=now + lasts)
    new = statement.excluded
    taken = session.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"holder": new.holder, "until_at": new.until_at}, where=Lease.until_at <= now
        ).returning(Lease.holder)
    )
    return taken.first() is not None


def give_back(session: Session, name: str, *, holder: UUID) -> None:
    """End a lease, unless another holder has it by now."""
    session.execute(delete(Lease).where(Lease.name == name, Lease.holder == holder))


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` leases that ended before, as after a crash. Returns their number."""
    over = list(session.scalars(select(Lease.name).where(Lease.until_at < before).limit(limit)))
    if over:
        statement = delete(Lease).where(Lease.name.in_(over), Lease.until_at < before)
        session.execute(statement.execution_options(synchronize_session=False))
    return len(over)
