"""Statements on saved views: lists with their filters, by name."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from app.db.models import SavedView
from app.ids import VIEW, show


def visible(session: Session, actor: str, *, shared: bool) -> Sequence[SavedView]:
    """The caller's own views, by name, and behind them, where wanted, those that others share."""
    own = session.scalars(select(SavedView).where(SavedView.actor == actor)).all()
    others = (
        session.scalars(select(SavedView).where(SavedView.shared, SavedView.actor != actor)).all() if shared else []
    )
    return [row for rows in (own, others) for row in sorted(rows, key=lambda row: (row.name.lower(), row.id))]


def get(session: Session, view_id: UUID) -> SavedView | None:
    return session.get(SavedView, view_id)


def add(session: Session, row: SavedView) -> SavedView:
    session.add(row)
    session.flush()
    return row


def own_count(session: Session, actor: str) -> int:
    return session.scalar(select(func.count()).where(SavedView.actor == actor)) or 0


def shared_count(session: Session) -> int:
    return session.scalar(select(func.count()).where(SavedView.shared)) or 0


def change(session: Session, row: SavedView, *, now: datetime, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.changed_at = now
    session.flush()


def remove(session: Session, row: SavedView) -> None:
    session.delete(row)
    session.flush()


def remove_unshared(session: Session, actor: str) -> None:
    """Delete the views that this actor alone sees."""
    session.execute(delete(SavedView).where(SavedView.actor == actor, ~SavedView.shared))


def shown(row: SavedView, *, actor: str) -> dict[str, Any]:
    """A view in its public form."""
    return {
        "id": show(VIEW, row.id),
        "name": row.name,
        "page": row.page,
        "query": row.query,
        "shared": row.shared,
        "saved_by": row.actor,
        "own": row.actor == actor,
        "created_at": row.created_at.isoformat(),
        "changed_at": row.changed_at.isoformat() if row.changed_at else None,
    }
