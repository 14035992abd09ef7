"""Statements on cases of connections that need their end user."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.connections import ConnectionState
from app.db.models import Repair
from app.domain.repairs import RepairEnd
from app.ids import first_id, new_id


def open_case(session: Session, connection: ConnectionState, *, cause: str, now: datetime) -> None:
    """Open the case of a connection, which is locked."""
    close(session, {connection.id: RepairEnd.UNSEEN}, now=now)
    row = {
        "id": new_id(),
        "connection_ref": connection.id,
        "environment": connection.environment,
        "integration": connection.integration,
        "cause": cause,
        "failing_since": connection.failing_since or now,
        "opened_at": now,
    }
    bulk.insert(session, Repair, [row])


def close(session: Session, ends: Mapping[UUID, RepairEnd], *, now: datetime) -> None:
    """Close the open cases of these connections, which are locked."""
    repairs = bulk.table(Repair)
    for end in sorted(set(ends.values())):
        mine = [connection_ref for connection_ref, how in ends.items() if how is end]
        session.execute(
            update(repairs)
            .where(bulk.among(bulk.dialect(session), repairs.c.connection_ref), repairs.c.closed_at.is_(None))
            .values(closed_at=now, closed_by=end),
            bulk.keys(mine),
        )


def prune(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` cases that were opened and closed before. Returns their number."""
    old = select(Repair.id).where(Repair.id < first_id(before), Repair.closed_at < before).order_by(Repair.id)
    gone = session.scalars(old.limit(limit)).all()
    session.execute(delete(Repair).where(Repair.id.in_(gone)).execution_options(synchronize_session=False))
    return len(gone)
