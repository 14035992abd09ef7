"""The newest event of a connection."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Event
from app.domain.link_explanations import Newest
from app.ids import EVENT, show


def newest_event(session: Session, connection_ref: UUID) -> Newest | None:
    """The newest event that is recorded with this connection; None: there is none."""
    row = session.execute(
        select(Event.id, Event.state, Event.failure)
        .where(Event.connection_ref == connection_ref)
        .order_by(Event.id.desc())
        .limit(1)
    ).first()
    return Newest(show(EVENT, row.id), row.state, row.failure) if row else None
