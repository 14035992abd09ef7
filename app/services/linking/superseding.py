"""The duplicates policy `supersede`: of an owner's live connections to one integration, the newest alone has the link.

A transaction that may change which one that is takes `lock_superseding` first. Integrations whose policy is
`keep` cost nothing: none of this is called for them.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.connections import ConnectionKey, ConnectionState
from app.domain.event import EventType
from app.domain.linking import Owner, UnlinkedReason, newest
from app.domain.states import ConnectionStatus
from app.services.directory import claim_of
from app.services.linking.connection_changes import ConnectionChanges
from app.services.policy import Policy
from app.services.routing.router import Router


class Superseding:
    """Moves links between an owner's connections. `load` adds the owner's other connections to the changes."""

    def __init__(self, session: Session, policy: Policy, changes: ConnectionChanges, *, now: datetime) -> None:
        self._session, self._policy, self._now = session, policy, now
        self._changes, self._links = changes, changes.links

    def load(self, owners: Iterable[tuple[ConnectionKey, Owner]]) -> None:
        """Lock the other connections of these owners to the same integrations, before any link is decided."""
        wanted = {
            (key.environment, key.integration, owner)
            for key, owner in owners
            if self._policy.supersedes(key.integration)
        }
        self._changes.add(rows.lock_linked(self._session, wanted) if wanted else ())

    def yield_to_newer(self, connection: ConnectionState, owner: Owner) -> bool:
        """True where the owner has a newer connection: this one gets no link, and has the reason noted."""
        if not self._is_ranked(connection):
            return False
        others = self._others(connection, owner)
        winner = self._newest([*others, connection])
        if winner is connection:
            return False
        self._mark_superseded(connection, winner)
        return True

    def take_over(self, connection: ConnectionState, owner: Owner) -> None:
        """Close the links of the owner's older connections; the given one's is open."""
        if self._is_ranked(connection):
            for other in self._others(connection, owner):
                self._links.close(other, "superseded")
                self._mark_superseded(other, connection)

    def keep_newest(self, environment: str, integration: str, owner: Owner) -> int:
        """Close all open links of the owner to the integration but the newest connection's. Returns how many."""
        linked = [
            connection
            for connection in self._changes.all()
            if (connection.environment, connection.integration) == (environment, integration)
            and self._is_ranked(connection)
            and self._links.owner_of(connection) == owner
        ]
        if linked:
            self.take_over(self._newest(linked), owner)
        return max(len(linked) - 1, 0)

    def restore(self, router: Router) -> None:
        """Link the newest of the connections whose superseding link has ended, and announce it."""
        ended = {link.id: Owner(link.user_id, link.organization_id) for link in self._links.ended}
        self._changes.add(rows.lock_superseded(self._session, ended.keys()))
        waiting = [connection for connection in self._changes.all() if connection.superseded_by in ended]
        ranked = sorted(waiting, key=lambda connection: (connection.nango_id or 0, connection.id), reverse=True)
        for connection in ranked:
            owner = ended.get(connection.superseded_by) if connection.superseded_by else None
            if owner is None or self._links.owner_of(connection) or self.yield_to_newer(connection, owner):
                continue
            connection.unlinked_reason = connection.superseded_by = None
            connection.updated_at = self._now
            linked_by = claim_of(connection, self._policy.tag_keys).linked_by
            self._links.open(connection, owner, linked_by=linked_by, event_id=None)
            self.take_over(connection, owner)
            router.emit(EventType.CONNECTION_LINKED, connection, owner=owner, confirmed=True)

    def _is_ranked(self, connection: ConnectionState) -> bool:
        """Only Nango's id says which connection is newer."""
        return self._policy.supersedes(connection.integration) and connection.nango_id is not None

    def _others(self, connection: ConnectionState, owner: Owner) -> list[ConnectionState]:
        """The owner's other live connections to the same integration."""
        return [
            other
            for other in self._changes.all()
            if (other.environment, other.integration) == (connection.environment, connection.integration)
            and other is not connection
            and other.nango_id is not None
            and other.status != ConnectionStatus.DELETED
            and self._links.owner_of(other) == owner
        ]

    def _newest(self, connections: Collection[ConnectionState]) -> ConnectionState:
        by_id = {connection.id: connection for connection in connections}
        chosen = newest({row.id: row.nango_id for row in connections if row.nango_id is not None})
        return by_id[chosen] if chosen else next(iter(connections))

    def _mark_superseded(self, connection: ConnectionState, winner: ConnectionState) -> None:
        connection.unlinked_reason, connection.superseded_by = UnlinkedReason.SUPERSEDED, self._links.id_of(winner)
        connection.drift = connection.known_tags = None
        connection.updated_at = self._now
