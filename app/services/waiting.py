"""Connections that wait for their owner are linked once the user or organization appears (promise 5)."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db.connections import Appeared, ConnectionRow, Key
from app.db.engine import Database
from app.domain.event import EventType
from app.domain.linking import Claim, DirectoryPolicy, Owner, TagKeys, Unlinked
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus
from app.errors import OwnerRemoved
from app.services.directory import Directory
from app.services.judging import Judge
from app.services.links import Links
from app.services.policy import Policy
from app.services.route_cache import RouteCache

CHUNK: Final = 200
MAX_CHUNKS: Final = 25  # of one call, which a person waits for


def link_waiting(database: Database, routes: RouteCache, keys: TagKeys, *, clock: Callable[[], datetime]) -> int:
    """Link whatever can be linked by now, a chunk per transaction. The sweep announces the jobs that come of it."""
    total = 0
    while True:
        looked_at, _ = _in_one_transaction(database, routes, keys, clock=clock)
        total += len(looked_at)
        if len(looked_at) < CHUNK:
            return total


def link_appeared(
    database: Database,
    routes: RouteCache,
    policy: Policy,
    appeared: Appeared,
    *,
    clock: Callable[[], datetime],
    chunks: int = MAX_CHUNKS,
) -> int:
    """Link the connections that wait for somebody who was just added or changed, up to so many chunks of them.

    Whoever made the change calls it after the commit. What is left, and what an event is making wait at this very
    moment, is found by Beat's next look. Returns how many were linked.
    """
    if not appeared or policy.directory is DirectoryPolicy.SQL:
        return 0  # with `sql`, the application's database alone says who somebody is
    total, after = 0, None
    for _ in range(chunks):
        looked_at, linked = _in_one_transaction(
            database, routes, policy.tag_keys, clock=clock, appeared=appeared, after=after
        )
        total += linked
        if len(looked_at) < CHUNK:
            break
        after = looked_at[-1]
    return total


def _in_one_transaction(
    database: Database,
    routes: RouteCache,
    keys: TagKeys,
    *,
    clock: Callable[[], datetime],
    appeared: Appeared | None = None,
    after: Key | None = None,
) -> tuple[list[Key], int]:
    """Whom it looked at, and how many of them are linked now."""
    current = routes.current(database)
    try:
        with database.write() as session:
            waiting = connection_rows.lock_waiting(session, limit=CHUNK, appeared=appeared, after=after)
            linked = _link(session, waiting, current, keys, now=clock())
    except (OwnerRemoved, IntegrityError):
        # Removed between the look and the commit: who they waited for is gone again.
        return [], 0
    return [one.key for one in waiting], linked


def _link(session: Session, waiting: Sequence[ConnectionRow], routes: RouteSet, keys: TagKeys, *, now: datetime) -> int:
    """Whoever still cannot be linked gets the reason that holds now, so nobody is looked at over and over.

    Returns how many were linked.
    """
    claims = {one.id: claim_of(one, keys) for one in waiting}
    links = Links(session, [one.id for one in waiting], now=now)
    # Nobody is made here: with the policy `create` the event has made whom it could.
    directory = Directory(session, list(claims.values()), policy=DirectoryPolicy.REQUIRE, now=now)
    judge = Judge(routes, directory, now=now)
    linked = 0
    for connection in waiting:
        claim = claims[connection.id]
        found = directory.resolve(claim)
        connection.updated_at = now
        if isinstance(found, Unlinked):
            connection.unlinked_reason = found.reason
            continue
        linked += 1
        open_link(connection, found, links, judge, linked_by=claim.linked_by, now=now)
    connection_rows.update(session, waiting)
    links.write()
    judge.write(session)
    return linked


def open_link(
    connection: ConnectionRow, owner: Owner, links: Links, judge: Judge, *, linked_by: str, now: datetime
) -> None:
    """It waits no more; the teams are told."""
    connection.unlinked_reason, connection.updated_at = None, now
    links.open(connection, owner, linked_by=linked_by, event_id=None)
    confirmed = connection.status != ConnectionStatus.UNCONFIRMED
    judge.conclude(EventType.CONNECTION_LINKED, connection, owner=owner, confirmed=confirmed)


def claim_of(connection: ConnectionRow, keys: TagKeys) -> Claim:
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
