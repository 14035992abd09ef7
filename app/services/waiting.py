"""Connections that wait for their owner are linked once the user or organization appears (promise 5)."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db.connections import ConnectionRow
from app.domain.event import EventType
from app.domain.linking import Claim, DirectoryPolicy, TagKeys, Unlinked
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus
from app.services.directory import Directory
from app.services.judging import Judge
from app.services.links import Links

CHUNK: Final = 200


def link_waiting(session: Session, routes: RouteSet, keys: TagKeys, *, now: datetime) -> int:
    """Link up to CHUNK waiting connections whose owner exists by now. Returns how many were looked at.

    Whoever still cannot be linked gets the reason that holds now, so nobody is looked at over and over.
    """
    waiting = connection_rows.lock_waiting(session, limit=CHUNK)
    claims = {one.id: _claim(one, keys) for one in waiting}
    links = Links(session, [one.id for one in waiting], now=now)
    # Nobody is made here: with the policy `create` the event has made whom it could.
    directory = Directory(session, list(claims.values()), policy=DirectoryPolicy.REQUIRE, now=now)
    judge = Judge(routes, directory, now=now)
    for connection in waiting:
        claim = claims[connection.id]
        found = directory.resolve(claim)
        connection.updated_at = now
        if isinstance(found, Unlinked):
            connection.unlinked_reason = found.reason
            continue
        connection.unlinked_reason = None
        links.open(connection, found, linked_by=claim.linked_by, event_id=None)
        confirmed = connection.status == ConnectionStatus.ACTIVE
        judge.conclude(EventType.CONNECTION_LINKED, connection, owner=found, confirmed=confirmed)
    connection_rows.update(session, waiting)
    links.write()
    judge.write(session)
    return len(waiting)


def _claim(connection: ConnectionRow, keys: TagKeys) -> Claim:
    """What the connection's last event claimed, as it was kept."""
    user, email, organization = connection.wanted_user, connection.wanted_email, connection.wanted_organization
    tag, legacy = (
        (keys.user_id, "endUser.endUserId")
        if user
        else (keys.user_email, "endUser.endUserEmail")
        if email
        else (keys.organization_id, "endUser.organizationId")
    )
    linked_by = tag if tag in connection.tags else legacy
    return Claim(user_id=user, email=email, organization_id=organization, linked_by=linked_by)
