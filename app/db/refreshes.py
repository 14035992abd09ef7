"""Statements on token refreshes, planned and manual."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db import connections as connection_rows
from app.db.connections import ConnectionState
from app.db.models import Connection, Refresh
from app.domain.refreshing.plan import Plan
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.ids import new_id


def plan(session: Session, plans: Mapping[UUID, Plan], *, now: datetime, failures: int = 0) -> None:
    """Open plans, by connection; the caller has closed earlier ones: the schema allows one open plan per connection."""
    rows = [
        {
            "id": new_id(),
            "connection_ref": connection_ref,
            "refresh_at": plan.due_at,
            "next_at": plan.due_at,
            "forced": plan.forced,
            "reason": plan.reason,
            "attempts": 0,
            "failures": failures,
            "created_at": now,
        }
        for connection_ref, plan in plans.items()
    ]
    bulk.insert(session, Refresh, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualRefreshRow:
    """A manual refresh with its result."""

    connection_ref: UUID
    requested_by: str
    forced: bool
    reason: str
    began_at: datetime
    outcome: RefreshOutcome
    error: str | None
    previous_expires_at: datetime | None
    expires_at: datetime | None


def add_manual(session: Session, refresh: ManualRefreshRow, *, now: datetime) -> None:
    """Add a manual refresh to the connection's history."""
    row = {field.name: getattr(refresh, field.name) for field in fields(refresh) if field.name != "began_at"}
    began = dict.fromkeys(("refresh_at", "next_at", "created_at"), refresh.began_at)
    bulk.insert(session, Refresh, [{"id": new_id(), **row, **began, "attempts": 1, "failures": 0, "finished_at": now}])


def open_plan(session: Session, connection_ref: UUID, *, lock: bool = False) -> Refresh | None:
    """The connection's open plan, or None. With `lock`, after the caller locked the connection."""
    plan = select(Refresh).where(Refresh.connection_ref == connection_ref, Refresh.finished_at.is_(None))
    return session.scalar(plan.with_for_update() if lock else plan)


def supersede(session: Session, connection_refs: Collection[UUID], *, now: datetime) -> None:
    """Close the open plans of these connections as superseded."""
    if connection_refs:
        refreshes = bulk.table(Refresh)
        session.execute(
            update(refreshes)
            .where(bulk.among(bulk.dialect(session), refreshes.c.connection_ref))
            .where(refreshes.c.finished_at.is_(None))
            .values(finished_at=now, outcome=RefreshOutcome.SUPERSEDED),
            bulk.keys(connection_refs),
        )


def save(session: Session, refresh: Refresh) -> None:
    """Flush a changed plan."""
    session.add(refresh)
    session.flush()


def claim(session: Session, *, limit: int, now: datetime, lease: timedelta) -> list[tuple[Refresh, Connection]]:
    """Claim up to `limit` due plans of connections that are not deleted: a lease, and one attempt more."""
    statement = (
        select(Refresh, Connection)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(
            Refresh.finished_at.is_(None),
            Refresh.next_at <= now,
            Connection.status != ConnectionStatus.DELETED,
        )
        .order_by(Refresh.next_at)
        .limit(limit)
        .with_for_update(of=Refresh, skip_locked=True)
    )
    taken = [(refresh, connection) for refresh, connection in session.execute(statement)]
    if taken:
        session.execute(
            update(Refresh)
            .where(Refresh.id.in_([refresh.id for refresh, _ in taken]))
            .values(attempts=Refresh.attempts + 1, next_at=now + lease)
            .execution_options(synchronize_session="evaluate")
        )
    return taken


def lock(session: Session, refresh_id: UUID) -> tuple[Refresh, ConnectionState] | None:
    """Lock an open plan and its connection, the connection first as everywhere. None where the plan is closed."""
    connection_ref = session.scalar(select(Refresh.connection_ref).where(Refresh.id == refresh_id))
    connection = connection_rows.lock_by_id(session, connection_ref) if connection_ref else None
    refresh = session.scalar(
        select(Refresh)
        .where(Refresh.id == refresh_id, Refresh.finished_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return (refresh, connection) if refresh and connection else None


def next_slot(session: Session) -> int:
    """The next number of a connection. Numbers of transactions that were rolled back are left out."""
    if bulk.dialect(session) == "postgresql":
        return session.scalar(text("SELECT nextval('connection_slots')")) or 0
    # SQLite has one writing transaction at a time.
    return (session.scalar(select(func.max(Connection.slot)).where(Connection.slot.is_not(None))) or 0) + 1


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """The count of due plans, `at_most`."""
    due = select(Refresh.id).where(Refresh.finished_at.is_(None), Refresh.next_at <= now).limit(at_most)
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0
