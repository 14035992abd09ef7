"""Connections that a lookup showed and that are not stored: an event of our own creates each."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.orm import Session

from app.db.connections import ConnectionKey
from app.domain.confirming import Snapshot
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.domain.states import Origin
from app.services import own_events
from app.services.events.pending_event import PendingEvent


@dataclass(slots=True)
class FoundCreations:
    """The events to store, one per connection, gathered while a batch is applied."""

    _events: dict[ConnectionKey, OwnEvent] = field(default_factory=dict)

    def find(self, pending: PendingEvent, found: Snapshot | None) -> None:
        """Keep an event that creates the connection of `pending`. found: what Nango showed of it; None: nothing new."""
        key = pending.key
        if found is None or key is None:
            return
        is_failure = pending.notice.type is EventType.CONNECTION_REFRESH_FAILED
        if is_failure or key not in self._events:
            # This event announces the error; the creation must not announce it as well.
            lookup = replace(found, auth_failing=False) if is_failure else found
            _, integration, connection_id = key
            kind = EventType.CONNECTION_CREATED
            self._events[key] = OwnEvent(type=kind, integration=integration, connection_id=connection_id, lookup=lookup)

    def write(self, session: Session, *, now: datetime) -> None:
        for (environment, *_), event in self._events.items():
            own_events.store(session, [event], environment=environment, origin=Origin.SYSTEM, now=now)
