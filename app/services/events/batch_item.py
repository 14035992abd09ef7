"""One event of a batch, with what is known before it is applied."""

from msgspec import Struct

from app.db.connections import ConnectionState
from app.db.event_claims import ClaimedEvent
from app.domain.confirming import ABOUT_TYPES, LINKING_TYPES, Accept, LookUpAgain, Verdict
from app.domain.event import failure_type
from app.domain.states import ConnectionStatus
from app.services.events.pending_event import PendingEvent


class Item(Struct, frozen=True):
    """connection: the one it is about, locked; None while it is not stored."""

    event: ClaimedEvent
    pending: PendingEvent
    verdict: Verdict
    connection: ConnectionState | None

    @property
    def is_newest(self) -> bool:
        """Whether the connection was not observed later than this event's lookup."""
        observed_at = self.connection.observed_at if self.connection else None
        return observed_at is None or self.pending.observed_at >= observed_at

    @property
    def waits_for_connection(self) -> bool:
        """Whether it is not applied before its connection is known, for as long as the creation may come."""
        found = self.verdict.found if isinstance(self.verdict, LookUpAgain) else None
        return self.pending.notice.type in ABOUT_TYPES or found is not None

    @property
    def kind(self) -> str:
        """The event's type when it is processed for the first time."""
        known = self.connection is not None and self.connection.status != ConnectionStatus.DELETED
        return str(failure_type(self.pending.notice, known=known))


def will_link(pending: PendingEvent, verdict: Verdict) -> bool:
    """Whether the event decides its connection's owner."""
    return isinstance(verdict, Accept) and pending.notice.type in LINKING_TYPES
