"""The documents of events, as routes are matched against them.

Most are stored with their event. A `connection.linked` that no route asked for repeats, but for a few members, the
document of the event that it followed from: it is stored without one, and made from that of its cause when it is read.
"""

from collections.abc import Collection
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, FromClause, Text, cast, func, or_, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Event
from app.domain.event import linked_document
from app.ids import EVENT, show

_events: Final = bulk.table(Event)
_causes: Final = _events.alias("causes")

SOURCE: Final[FromClause] = _events.outerjoin(_causes, _causes.c.id == _events.c.cause_id)  # select from it
EXISTS: Final[ColumnElement[bool]] = or_(_events.c.document.is_not(None), _causes.c.document.is_not(None))
TEXT: Final[ColumnElement[str]] = func.coalesce(
    cast(_events.c.document, Text), cast(_causes.c.document, Text), ""
).label("document")
COLUMNS: Final = (_events.c.id, TEXT, _events.c.cause_id, _events.c.received_at, _events.c.origin, _events.c.confirmed)


class FoundDocument(NamedTuple):
    """A row of COLUMNS. document: as JSON text, of the cause where there is one; "" where there is none."""

    id: UUID
    document: str
    cause_id: UUID | None
    received_at: Any
    origin: str
    confirmed: bool | None

    @property
    def text(self) -> str:
        """The event's document as JSON text. One that cannot be read is returned as it is stored."""
        if self.cause_id is None or not self.document:
            return self.document
        try:
            cause = msgspec.json.decode(self.document)
        except (msgspec.DecodeError, RecursionError):
            return self.document
        return msgspec.json.encode(_made(self, cause)).decode() if isinstance(cause, dict) else self.document


def of(session: Session, event: Event) -> dict[str, Any] | None:
    """The document of an event; None where it was not routed, or its cause is deleted."""
    if event.document is not None or event.cause_id is None:
        return event.document
    cause = session.get(Event, event.cause_id)
    return _made(event, cause.document) if cause is not None and cause.document is not None else None


def why_none(event: Event) -> str:
    """The reason why an event that did not fail has no document."""
    return "it waits to be processed" if event.cause_id is None else "the event that it followed from is deleted"


def keep(session: Session, event_ids: Collection[UUID]) -> None:
    """Store the documents of these events with them: an event with a job has its own."""
    dialect = bulk.dialect(session)
    mine = bulk.among(dialect, _events.c.id), _events.c.cause_id.is_not(None), EXISTS
    without = select(*COLUMNS).select_from(SOURCE).where(*mine)
    for row in session.execute(without, bulk.keys(event_ids)).all():
        document = msgspec.json.decode(FoundDocument(*row).text)
        session.execute(update(_events).where(_events.c.id == row.id).values(document=document, cause_id=None))


def _made(event: Event | FoundDocument, cause: dict[str, Any]) -> dict[str, Any]:
    return linked_document(
        cause,
        event_id=show(EVENT, event.id),
        origin=event.origin,
        occurred_at=event.received_at,
        confirmed=bool(event.confirmed),
    )
