"""The open links of one batch's connections: at most one each, closed and opened here, written at the end."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as rows
from app.db import owners
from app.db.connections import ConnectionRow, LinkRow
from app.domain.linking import Owner
from app.errors import OwnerRemoved
from app.ids import new_id


class Links:
    """Whom each connection belongs to, while a batch changes it."""

    def __init__(self, session: Session, connection_refs: Collection[UUID], *, now: datetime) -> None:
        self._session, self._now = session, now
        self._open = rows.open_links(session, connection_refs)
        self._closed: list[dict[str, Any]] = []
        self.ended: list[LinkRow] = []  # what was open and is not any more
        self._new: dict[UUID, dict[str, Any]] = {}

    def load(self, connection_refs: Collection[UUID]) -> None:
        """Further connections, whose links may have to be closed."""
        self._open |= rows.open_links(self._session, connection_refs)

    def id_of(self, connection: ConnectionRow) -> UUID | None:
        """The connection's open link."""
        link = self._open.get(connection.id)
        return link.id if link else None

    def all(self) -> list[LinkRow]:
        return list(self._open.values())

    def of(self, connection: ConnectionRow | None) -> Owner | None:
        """The connection's current owner."""
        link = self._open.get(connection.id) if connection else None
        return Owner(link.user_id, link.organization_id) if link else None

    def close(self, connection: ConnectionRow, reason: str) -> None:
        """End the open link, if there is one. Links are never deleted."""
        link = self._open.pop(connection.id, None)
        if link is None:
            return
        self.ended.append(link)
        end = {"closed_at": self._now, "close_reason": reason}
        if link.id in self._new:  # opened in this very batch: not written yet
            self._new[link.id].update(end)
        else:
            self._closed.append({"id": link.id, **end})

    def open(self, connection: ConnectionRow, owner: Owner, *, linked_by: str, event_id: UUID | None) -> None:
        """Begin a link. The caller has closed the one before."""
        link = LinkRow(new_id(), connection.id, owner.user_id, owner.organization_id)
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
        """Raises OwnerRemoved where one of the new owners was removed since they were looked up."""
        opened = list(self._new.values())
        rows.write_links(self._session, closed=self._closed, opened=opened)
        # From here on the foreign keys hold the owners: who removes one later waits for us, and sees these links.
        users = {one["user_id"] for one in opened if one["user_id"]}
        organizations = {one["organization_id"] for one in opened if one["organization_id"]}
        if opened and owners.removed_among(self._session, users, organizations):
            raise OwnerRemoved
