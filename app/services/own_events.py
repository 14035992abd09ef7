"""Store events of our own: what was found at Nango, and what an operator did. The one pipeline does the rest."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import events as event_rows
from app.domain.own_event import OwnEvent, write_own
from app.domain.states import Origin


def store(
    session: Session, found: Sequence[OwnEvent], *, environment: str, origin: Origin, now: datetime
) -> list[UUID]:
    """Their ids, in order. After the commit they may be announced as a webhook's are; the sweep does it else.

    Raises ValueError for the origin webhook, which is for what Nango posted.
    """
    if origin is Origin.WEBHOOK:
        raise ValueError("an event of our own has an origin of our own")
    bodies = [write_own(one) for one in found]
    return event_rows.insert_own(session, bodies, environment=environment, origin=origin, now=now)
