"""The events of a batch within its transaction.

An event is decided as it was claimed, and not locked: the update with its result finds what changed meanwhile. Where
something did, or may have, events are locked first.
"""

from collections.abc import Sequence
from uuid import UUID

from msgspec.structs import replace
from sqlalchemy.orm import Session

from app.db import event_claims
from app.db import events as rows
from app.db.bulk import Row
from app.db.event_claims import ClaimedEvent
from app.domain.states import EventState
from app.services.events.pending_event import PendingEvent


class EventsChanged(Exception):
    """An event changed after its claim: nothing of the batch may be written, and it has to be decided anew."""


class CurrentEvents:
    """Made by `load`. events: those to decide, as they are now, in the order of the batch."""

    def __init__(
        self, session: Session, events: Sequence[tuple[ClaimedEvent, PendingEvent]], locked: set[UUID]
    ) -> None:
        self.events = events
        self._session, self._locked = session, locked

    @classmethod
    def load(cls, session: Session, pending: Sequence[PendingEvent], *, lock: bool) -> "CurrentEvents":
        """Lock the events that may have changed, or all.

        Those that a worker of the release before has claimed since are left out: its result counts.
        """
        asked = [item.event.id for item in pending if lock or not item.event.is_plain]
        locked = {event.id: event for event in event_claims.lock(session, asked)} if asked else {}
        asked_ids = set(asked)
        events = []
        for item in pending:
            event = item.event
            if event.id in asked_ids:
                now = locked.get(event.id)
                if now is None or now.state != EventState.RECEIVED or now.attempts != event.attempts:
                    continue
                event = replace(event, duplicates=now.duplicates)
            events.append((event, item))
        return cls(session, events, asked_ids)

    def write(self, changes: Sequence[Row]) -> None:
        """Write the results. Raises EventsChanged."""
        rows.change(self._session, [row for row in changes if row["id"] in self._locked])
        plain = [row for row in changes if row["id"] not in self._locked]
        if event_claims.change_plain(self._session, plain) < len(plain):
            raise EventsChanged
