"""Links that are opened after the event that told of their connection, once the owner that its tags name is known.

The duplicates policy (`superseding`) holds for them as for an event's links.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from app.db.connections import ConnectionKey, ConnectionState
from app.domain.event import EventType
from app.domain.linking import Owner
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus
from app.services.directory import Directory
from app.services.linking.connection_changes import ConnectionChanges
from app.services.linking.superseding import Superseding
from app.services.policy import Policy
from app.services.routing.precomputed_matches import Matches
from app.services.routing.router import Router


class DeferredLinks:
    """Opens links of waiting connections within one transaction; `write` writes them and their events.

    superseding: None where every policy is `keep`.
    """

    def __init__(
        self, changes: ConnectionChanges, superseding: Superseding | None, router: Router, *, now: datetime
    ) -> None:
        self._changes, self._superseding, self._router, self._now = changes, superseding, router, now

    @classmethod
    def load(
        cls,
        session: Session,
        policy: Policy,
        routes: RouteSet,
        directory: Directory,
        waiting: Iterable[ConnectionState],
        *,
        now: datetime,
    ) -> "DeferredLinks":
        """For these connections, whose rows are locked."""
        changes = ConnectionChanges.load(session, waiting, now=now)
        supersedes = any(policy.supersedes(connection.integration) for connection in changes.all())
        superseding = Superseding(session, policy, changes, now=now) if supersedes else None
        return cls(changes, superseding, Router(Matches(routes), directory, now=now), now=now)

    def load_others(self, owners: Iterable[tuple[ConnectionKey, Owner]]) -> None:
        """Lock the other connections of the owners to be, before any link is opened."""
        if self._superseding:
            self._superseding.load(owners)

    def open(self, connection: ConnectionState, owner: Owner, *, linked_by: str) -> bool:
        """Link the connection and announce it; False where a newer connection of the owner's has the link.

        A link to another owner is closed, and announced as the previous one.
        """
        connection.unlinked_reason, connection.updated_at = None, self._now
        previous = self.owner_of(connection)
        self._changes.links.close(connection, "reassigned")
        if self._superseding and self._superseding.yield_to_newer(connection, owner):
            return False
        self._changes.links.open(connection, owner, linked_by=linked_by, event_id=None)
        if self._superseding:
            self._superseding.take_over(connection, owner)
        confirmed = connection.status != ConnectionStatus.UNCONFIRMED
        self._router.emit(EventType.CONNECTION_LINKED, connection, owner=owner, previous=previous, confirmed=confirmed)
        return True

    def owner_of(self, connection: ConnectionState) -> Owner | None:
        """The connection's present owner."""
        return self._changes.links.owner_of(connection)

    def keep_newest(self, environment: str, integration: str, owner: Owner) -> int:
        """Close all links of the owner to the integration but the newest connection's. Returns how many."""
        return self._superseding.keep_newest(environment, integration, owner) if self._superseding else 0

    def write(self, session: Session) -> None:
        if self._superseding:
            self._superseding.restore(self._router)
        self._changes.write()
        self._router.write(session)
