"""Numbers of webhooks that arrived within spans of time, each counted up to a bound."""

from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Event, SigningKeyUse
from app.domain import canary
from app.domain.states import Origin
from app.ids import first_id

READ: Final = 1_000  # events read of a span, of any origin

_events: Final = bulk.table(Event)


def last(session: Session) -> dict[str, datetime]:
    """The time of the last verified webhook of each environment, to within some seconds."""
    newest = func.max(SigningKeyUse.last_at)
    found = select(SigningKeyUse.environment, newest).where(SigningKeyUse.last_at.is_not(None))
    return {row[0]: row[1] for row in session.execute(found.group_by(SigningKeyUse.environment)) if row[1]}


def counts(session: Session, *, since: datetime, until: datetime) -> dict[str, int]:
    """Webhooks by environment that became events within the span, among its first READ events."""
    span = select(_events.c.environment, _events.c.origin).where(
        _events.c.id >= first_id(since), _events.c.id < first_id(until)
    )
    first = span.order_by(_events.c.id).limit(READ).subquery()
    found = select(first.c.environment, func.count()).where(
        first.c.origin == Origin.WEBHOOK, first.c.environment != canary.ENVIRONMENT
    )
    return {row[0]: row[1] for row in session.execute(found.group_by(first.c.environment))}
