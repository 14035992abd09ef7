"""The connections that one transaction changes, with their links."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.connections import ConnectionKey, ConnectionState
from app.services.linking.links import Links


class ConnectionChanges:
    """Locked rows and new ones, changed in memory and written once, with the links that are opened and closed.

    `load` reads the links. `write` compares each row with what it was, and writes what differs.
    """

    def __init__(self, session: Session, links: Links, *, now: datetime) -> None:
        self._session, self._now = session, now
        self.links = links
        self._rows: dict[ConnectionKey, ConnectionState] = {}
        self._before: dict[UUID, tuple[Any, ...]] = {}  # of the stored ones

    @classmethod
    def load(cls, session: Session, connections: Iterable[ConnectionState], *, now: datetime) -> "ConnectionChanges":
        """These connections, whose rows are locked."""
        changes = cls(session, Links(session, now=now), now=now)
        changes.add(list(connections))
        return changes

    def all(self) -> list[ConnectionState]:
        return list(self._rows.values())

    def get(self, key: ConnectionKey | None) -> ConnectionState | None:
        return self._rows.get(key) if key else None

    def get_or_create(self, key: ConnectionKey) -> ConnectionState:
        """The connection of that key, unconfirmed where it is new."""
        if key not in self._rows:
            self._rows[key] = rows.new(key, now=self._now)
        return self._rows[key]

    def add(self, found: Collection[ConnectionState]) -> list[ConnectionState]:
        """Take in further locked rows. Returns them as they are here: changed already, where they were known."""
        further = [connection for connection in found if connection.key not in self._rows]
        self._rows |= {connection.key: connection for connection in further}
        self._before |= {connection.id: rows.values(connection) for connection in further}
        if further:
            self.links.load([connection.id for connection in further])
        return [self._rows[connection.key] for connection in found]

    def stored_ids(self) -> Collection[UUID]:
        """The row ids of those that were there before."""
        return self._before.keys()

    def write(self) -> None:
        """Write new and changed connections, then the links that refer to them."""
        new = [connection for connection in self._rows.values() if connection.id not in self._before]
        stored = [connection for connection in self._rows.values() if connection.id in self._before]
        rows.insert(self._session, new)
        rows.update(self._session, [row for row in stored if rows.values(row) != self._before[row.id]])
        self.links.write()
