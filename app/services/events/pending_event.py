"""An event between its claim and its result."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from app.db.connections import ConnectionKey
from app.db.event_claims import ClaimedEvent
from app.domain.confirming import (
    ABOUT_TYPES,
    ASKED_TYPES,
    NAMING_TYPES,
    Absent,
    LookupResult,
    NotAsked,
    Snapshot,
    Unavailable,
)
from app.domain.event import EventType, Notice
from app.domain.linking import EndUser
from app.domain.owner_queries import Named
from app.domain.states import Origin
from app.services.events.lookups import Wanted

NOT_ASKED: Final = NotAsked()
PATIENT_LOOKUPS: Final = 2  # after so many that the newest pages did not answer, a connection is looked up by its id


class PendingEvent(Struct):
    """A claimed event with what its body says, and what Nango and the application's database answer as they are asked.

    lookup: NotAsked until Nango has answered; an event of Waylink's own may bring the lookup that found it.
    owner_answer: of the application's database; None where it is not asked (every directory policy but `sql`).
    scrubbed_body: stored instead of a body that an earlier release left with secrets.
    key: of the connection that the body names; None where it names none.
    traceparent: of the event; where traces are on, also for one that was stored without.
    """

    event: ClaimedEvent
    notice: Notice
    lookup: LookupResult = NOT_ASKED
    owner_answer: Named | None = None
    scrubbed_body: bytes | None = None
    key: ConnectionKey | None = None
    traceparent: str | None = None

    def __post_init__(self) -> None:
        self.traceparent = self.event.traceparent
        if (named := self.notice.key) is not None:
            self.key = ConnectionKey(self.event.environment, *named)

    @property
    def size(self) -> int:
        """Of the body, in bytes."""
        return self.event.size

    @property
    def is_found(self) -> bool:
        """Found by comparing Nango's list with the stored connections."""
        return self.event.origin == Origin.RECONCILE

    @property
    def needs_lookup(self) -> bool:
        """Nango has to be asked. What only goes with a connection waits for it once before."""
        has_waited = self.notice.type in ABOUT_TYPES and self.event.looks > 0
        return isinstance(self.lookup, NotAsked) and (has_waited or self.notice.type in ASKED_TYPES)

    @property
    def wanted(self) -> Wanted:
        """The lookup to make. Duplicates, and all but creations, need an answer newer than themselves."""
        needs_fresh = self.notice.type is not EventType.CONNECTION_CREATED or self.event.duplicates
        return Wanted(
            self.event.last_seen_at,
            None if needs_fresh else self.notice.tags,
            patient=self.event.looks < PATIENT_LOOKUPS,
            confirms=self.notice.type not in NAMING_TYPES,
        )

    @property
    def answer(self) -> str:
        """Nango's answer in a word, for log lines and spans."""
        if isinstance(self.lookup, Snapshot):
            return "snapshot"
        if isinstance(self.lookup, Absent):
            return "absent"
        return "not_asked" if isinstance(self.lookup, NotAsked) else "unavailable"

    @property
    def observed_at(self) -> datetime:
        """The time of Nango's answer, or of the receipt where Nango was not asked."""
        if isinstance(self.lookup, Snapshot | Absent):
            return self.lookup.observed_at
        return self.event.last_seen_at

    @property
    def evidence(self) -> tuple[Mapping[str, str] | None, EndUser | None]:
        """Tags and end user: of Nango's answer where there is one, else of the body."""
        if isinstance(self.lookup, Snapshot):
            return self.lookup.tags, self.lookup.end_user
        return self.notice.tags, self.notice.end_user

    def take_owner_answer(self, answer: Named | Unavailable) -> None:
        """Add the application database's answer. Without one, the whole event is looked up again later."""
        if isinstance(answer, Unavailable):
            self.lookup = answer
        else:
            self.owner_answer = answer
