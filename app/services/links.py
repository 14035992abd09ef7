"""The open links of one batch's connections: at most one each, closed and opened here, written at the end."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db.events import insert_for
from app.db.models import Connection, Link
from app.domain.linking import Owner
from app.ids import new_id


class Links:
    """Whom each connection belongs to, while a batch changes it."""

    def __init__(self, session: Session, connections: Collection[Connection], *, now: datetime) -> None:
        self._session, self._now = session, now
        self._open = rows.open_links(session, connections)
        self._new: list[dict[str, Any]] = []

    def all(self) -> list[Link]:
        return list(self._open.values())

    def of(self, connection: Connection | None) -> Owner | None:
        """The connection's current owner."""
        link = self._open.get(connection.id) if connection else None
        return Owner(link.user_id, link.organization_id) if link else None

    def close(self, connection: Connection, reason: str) -> None:
        """End the open link, if there is one. Links are never deleted."""
        link = self._open.pop(connection.id, None)
        if link is None:
            return
        link.closed_at, link.close_reason = self._now, reason
        for row in self._new:
            if row["id"] == link.id:  # opened in this very batch: not written yet
                row["closed_at"], row["close_reason"] = self._now, reason

    def open(self, connection: Connection, owner: Owner, *, linked_by: str, event_id: UUID | None) -> None:
        """Begin a link. The caller has closed the one before."""
        row = {
            "id": new_id(),
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
        self._new.append(row)
        self._open[connection.id] = Link(**row)

    def write(self) -> None:
        """Closed links first: the schema allows one open link per connection."""
        self._session.flush()
        if self._new:
            self._session.execute(insert_for(self._session, Link), self._new)
