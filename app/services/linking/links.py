"""The open links of the connections that one transaction changes: at most one each, written together at its end."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.connections import ConnectionState, OpenLink
from app.domain.linking import Owner
from app.ids import new_id


class Links:
    """Opens and closes links in memory. `ended` has those that were open and are not any more."""

    def __init__(self, session: Session, *, now: datetime) -> None:
        self._session, self._now = session, now
        self._open: dict[UUID, OpenLink] = {}
        self._closed: list[dict[str, Any]] = []
        self.ended: list[OpenLink] = []
        self._new: dict[UUID, dict[str, Any]] = {}

    def load(self, connection_refs: Collection[UUID]) -> None:
        """Read the open links of these connections, by their row ids."""
        self._open |= rows.open_links(self._session, connection_refs)

    def id_of(self, connection: ConnectionState) -> UUID | None:
        """The id of the connection's open link."""
        link = self._open.get(connection.id)
        return link.id if link else None

    def all(self) -> list[OpenLink]:
        return list(self._open.values())

    def owner_of(self, connection: ConnectionState | None) -> Owner | None:
        """The connection's current owner; None without a link, and for None."""
        link = self._open.get(connection.id) if connection else None
        return Owner(link.user_id, link.organization_id) if link else None

    def close(self, connection: ConnectionState, reason: str) -> None:
        """Close the open link, if there is one. Links are never deleted."""
        link = self._open.pop(connection.id, None)
        if link is None:
            return
        self.ended.append(link)
        end = {"closed_at": self._now, "close_reason": reason}
        if link.id in self._new:  # opened in this transaction: not written yet
            self._new[link.id].update(end)
        else:
            self._closed.append({"id": link.id, **end})

    def open(self, connection: ConnectionState, owner: Owner, *, linked_by: str, event_id: UUID | None) -> None:
        """Open a link; the caller has closed the one before. event_id: of the event that told of the owner."""
        link = OpenLink(new_id(), connection.id, owner.user_id, owner.organization_id)
        self._open[connection.id] = link
        self._new[link.id] = {
            "id": link.id,
            "connection_ref": connection.id,
            "nango_id": connection.nango_id,
            "user_id": owner.user_id,
            "organization_id": owner.organization_id,
            "linked_by": linked_by,
            "event_id": event_id,
            "opened_at": self._now,
            "closed_at": None,
            "close_reason": None,
        }

    def write(self) -> None:
        """Write closed and opened links."""
        rows.write_links(self._session, closed=self._closed, opened=list(self._new.values()))
