"""Links that open later than the event that told of their connection, because whoever it names appeared only now.

The policy on several connections of one owner holds for them as for an event's (`superseding`).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.connections import ConnectionRow, Key
from app.domain.event import EventType
from app.domain.linking import Owner
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus
from app.services.directory import Directory
from app.services.linking.links import Links
from app.services.linking.superseding import Superseding
from app.services.policy import Policy
from app.services.routing.matches import Matches
from app.services.routing.router import Judge


class LateLinks:
    """What becomes of connections that waited, within one transaction; `write` ends it."""

    def __init__(
        self,
        session: Session,
        policy: Policy,
        routes: RouteSet,
        directory: Directory,
        waiting: Sequence[ConnectionRow],
        *,
        now: datetime,
    ) -> None:
        self._session, self._now = session, now
        self._connections = {one.key: one for one in waiting}
        self._before = {one.id: rows.values(one) for one in waiting}
        self._links = Links(session, list(self._before), now=now)
        self._judge = Judge(Matches(routes), directory, now=now)
        self._superseding: Superseding | None = None
        if any(policy.supersedes(one.integration) for one in waiting):
            self._superseding = Superseding(
                session, policy, self._links, connections=self._connections, before=self._before, now=now
            )

    def expect(self, owners: Iterable[tuple[Key, Owner]]) -> None:
        """Whom they will belong to, before any link is opened."""
        if self._superseding:
            self._superseding.load(owners)

    def open(self, connection: ConnectionRow, owner: Owner, *, linked_by: str) -> bool:
        """It waits no more, and the teams are told; False where a newer connection of the owner's has the link."""
        connection.unlinked_reason, connection.updated_at = None, self._now
        if self._superseding and self._superseding.give_way(connection, owner):
            return False
        self._links.open(connection, owner, linked_by=linked_by, event_id=None)
        if self._superseding:
            self._superseding.take_over(connection, owner)
        confirmed = connection.status != ConnectionStatus.UNCONFIRMED
        self._judge.conclude(EventType.CONNECTION_LINKED, connection, owner=owner, confirmed=confirmed)
        return True

    def supersede(self, environment: str, integration: str, owner: Owner) -> int:
        """Of this owner's connections that are here, the newest alone keeps its link. How many lost theirs."""
        return self._superseding.settle(environment, integration, owner) if self._superseding else 0

    def write(self) -> None:
        """Raises OwnerRemoved."""
        if self._superseding:
            self._superseding.hand_back(self._judge)
        changed = [one for one in self._connections.values() if rows.values(one) != self._before[one.id]]
        rows.update(self._session, changed)
        self._links.write()
        self._judge.write(self._session)


def take_turn(session: Session, policy: Policy) -> None:
    """Before any row is locked: where links may take each other's place, one transaction at a time decides."""
    if policy.supersedes_any:
        rows.wait_for_turn(session)
