"""Store events of our own: what was found at Nango, and what an operator did. The one pipeline does the rest."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import events as event_rows
from app.db.connections import ConnectionRow
from app.domain.confirming import Absent, View
from app.domain.event import EventType
from app.domain.own_event import OwnEvent, write_own
from app.domain.states import Origin

CRASHED: Final = "crashed"  # the error of a refresh that came to nothing: ours, not Nango's


def store(
    session: Session,
    found: Sequence[OwnEvent],
    *,
    environment: str,
    origin: Origin,
    now: datetime,
    connection_ref: UUID | None = None,
) -> list[UUID]:
    """Their ids, in order. After the commit they may be announced as a webhook's are; the sweep does it else.

    connection_ref: the one connection that all are about, where it is known.

    Raises ValueError for the origin webhook, which is for what Nango posted.
    """
    if origin is Origin.WEBHOOK:
        raise ValueError("an event of our own has an origin of our own")
    bodies = [write_own(one) for one in found]
    return event_rows.insert_own(
        session, bodies, environment=environment, origin=origin, now=now, connection_ref=connection_ref
    )


def news_in(connection: ConnectionRow, look: View | Absent, *, asked_at: datetime) -> list[OwnEvent]:
    """What a GET's answer shows that our record does not: it goes the way of all events, and is confirmed like them."""
    if connection.observed_at is not None and asked_at < connection.observed_at:
        return []  # something newer was seen while Nango was asked
    event = partial(OwnEvent, integration=connection.integration, connection_id=connection.connection_id, look=look)
    if isinstance(look, Absent):
        return [event(type=EventType.CONNECTION_DELETED)]
    if connection.nango_id != look.nango_id:
        return [event(type=EventType.CONNECTION_CREATED)]
    found = []
    if dict(look.tags) != connection.tags:
        found.append(event(type=EventType.CONNECTION_TAGS_CHANGED))
    if connection.last_error_type not in {None, CRASHED} and not look.auth_failing:
        found.append(event(type=EventType.CONNECTION_RECOVERED))
    return found
