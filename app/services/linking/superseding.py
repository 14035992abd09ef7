"""Several live connections of one owner to one integration, where the policy is that the newest alone has the link.

A transaction that may change who that is waits for its turn first. The others cost nothing: none of this is called
for integrations whose policy is `keep`.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.connections import ConnectionRow, Key
from app.domain.event import EventType
from app.domain.linking import Owner, UnlinkedReason, newest
from app.domain.states import ConnectionStatus
from app.services.directory import claim_of
from app.services.linking.links import Links
from app.services.policy import Policy
from app.services.routing.router import Judge


class Superseding:
    """Which of an owner's connections has the link, while a batch changes that. The batch's own grow by the others."""

    def __init__(
        self,
        session: Session,
        policy: Policy,
        links: Links,
        *,
        connections: dict[Key, ConnectionRow],
        before: dict[UUID, tuple[Any, ...]],
        now: datetime,
    ) -> None:
        self._session, self._policy, self._links, self._now = session, policy, links, now
        self._connections, self._before = connections, before

    def load(self, claimed: Iterable[tuple[Key, Owner]]) -> None:
        """Lock the other connections of these owners, before any of them is decided about."""
        owners = {(key[0], key[1], owner) for key, owner in claimed if self._policy.supersedes(key[1])}
        self._add(rows.lock_linked(self._session, owners) if owners else ())

    def give_way(self, connection: ConnectionRow, owner: Owner) -> bool:
        """Whether a newer connection of the owner's is there: then this one gets no link, and says so."""
        if not self._counts(connection):
            return False
        others = self._others(connection, owner)
        winner = self._newest([*others, connection])
        if winner is connection:
            return False
        self._step_back(connection, winner)
        return True

    def take_over(self, connection: ConnectionRow, owner: Owner) -> None:
        """Its link is open now: the older ones of the owner's are closed."""
        if self._counts(connection):
            for other in self._others(connection, owner):
                self._links.close(other, "superseded")
                self._step_back(other, connection)

    def settle(self, environment: str, integration: str, owner: Owner) -> int:
        """The same for links that all stand already: the newest of these keeps its own. How many are closed."""
        place = environment, integration
        theirs = [one for one in self._connections.values() if self._counts(one) and self._links.of(one) == owner]
        linked = [one for one in theirs if (one.environment, one.integration) == place]
        if linked:
            self.take_over(self._newest(linked), owner)
        return max(len(linked) - 1, 0)

    def hand_back(self, judge: Judge) -> None:
        """Where a link ended that had taken others' place, the newest of them gets it back, and the teams are told."""
        ended = {link.id: Owner(link.user_id, link.organization_id) for link in self._links.ended}
        waiting = self._add(rows.lock_superseded(self._session, ended.keys()))
        waiting += [one for one in self._connections.values() if one.superseded_by in ended and one not in waiting]
        ranked = sorted(waiting, key=lambda one: (one.nango_id or 0, one.id), reverse=True)
        for connection in ranked:
            owner = ended.get(connection.superseded_by) if connection.superseded_by else None
            if owner is None or self._links.of(connection) is not None or self.give_way(connection, owner):
                continue
            connection.unlinked_reason = connection.superseded_by = None
            connection.updated_at = self._now
            linked_by = claim_of(connection, self._policy.tag_keys).linked_by
            self._links.open(connection, owner, linked_by=linked_by, event_id=None)
            self.take_over(connection, owner)
            judge.conclude(EventType.CONNECTION_LINKED, connection, owner=owner, confirmed=True)

    def _add(self, found: Collection[ConnectionRow]) -> list[ConnectionRow]:
        """The same connections as the batch has them, where it has them."""
        new = [one for one in found if one.key not in self._connections]
        self._connections |= {one.key: one for one in new}
        self._before |= {one.id: rows.values(one) for one in new}
        self._links.load([one.id for one in new])
        return [self._connections[one.key] for one in found]

    def _counts(self, connection: ConnectionRow) -> bool:
        """Without Nango's id nobody knows which one is newer."""
        return self._policy.supersedes(connection.integration) and connection.nango_id is not None

    def _others(self, connection: ConnectionRow, owner: Owner) -> list[ConnectionRow]:
        place = connection.environment, connection.integration
        return [
            one
            for one in self._connections.values()
            if (one.environment, one.integration) == place
            and one is not connection
            and one.nango_id is not None
            and one.status != ConnectionStatus.DELETED
            and self._links.of(one) == owner
        ]

    def _newest(self, connections: Collection[ConnectionRow]) -> ConnectionRow:
        by_id = {one.id: one for one in connections}
        chosen = newest({one.id: one.nango_id for one in connections if one.nango_id is not None})
        return by_id[chosen] if chosen else next(iter(connections))

    def _step_back(self, connection: ConnectionRow, winner: ConnectionRow) -> None:
        connection.unlinked_reason, connection.superseded_by = UnlinkedReason.SUPERSEDED, self._links.id_of(winner)
        connection.drift = connection.known_tags = None
        connection.updated_at = self._now
