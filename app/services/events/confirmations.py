"""The confirmation of a batch's events against the connections that its transaction has locked."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.connections import ConnectionState
from app.db.event_claims import ClaimedEvent
from app.domain.confirming import ABOUT_TYPES, LINKING_TYPES, Accept, KnownConnection, Snapshot, Verdict, confirm
from app.domain.states import ConnectionStatus
from app.services import own_events
from app.services.events.connection_transitions import is_failing
from app.services.events.pending_event import PendingEvent
from app.services.linking.connection_changes import ConnectionChanges


class Confirmations:
    """Confirms events. edits: the tags that operators last wrote, by the connection's row id."""

    def __init__(self, changes: ConnectionChanges, edits: Mapping[UUID, Snapshot]) -> None:
        self._changes, self._edits = changes, edits

    @classmethod
    def load(
        cls, session: Session, changes: ConnectionChanges, events: Sequence[tuple[ClaimedEvent, PendingEvent]]
    ) -> "Confirmations":
        """Read the edits that may be newer than the lookups of these events."""
        lookups = [(changes.get(item.key), item.lookup) for _, item in events if item.notice.type in LINKING_TYPES]
        snapshots = [(row.id, found) for row, found in lookups if row is not None and isinstance(found, Snapshot)]
        return cls(changes, own_events.edits_before(session, snapshots))

    def verdict(self, event: ClaimedEvent, pending: PendingEvent) -> Verdict:
        """Confirm an event by its connection as it is now, with the changes of the batch's earlier events."""
        if pending.notice.type in ABOUT_TYPES and event.route_set is not None:
            return Accept(confirmed=False)  # repeated: it was routed, and says nothing of its connection
        connection = self._changes.get(pending.key)
        known = self._known(connection) if connection else None
        return confirm(pending.notice, pending.lookup, lookups=event.looks, known=known)

    def _known(self, connection: ConnectionState) -> KnownConnection:
        return KnownConnection(
            nango_id=connection.nango_id,
            observed_at=connection.observed_at,
            absences=connection.absences,
            deleted=connection.status == ConnectionStatus.DELETED,
            failing=is_failing(connection),
            edit=self._edits.get(connection.id),
        )
