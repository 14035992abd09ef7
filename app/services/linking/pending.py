"""Connections that wait for their owner are linked once the user or organization appears (promise 5).

Opens short transactions, one per chunk of connections.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db.connections import Appeared, ConnectionRow, Key
from app.db.engine import Database
from app.domain.linking import DirectoryPolicy, Owner, Unlinked
from app.domain.routing import RouteSet
from app.errors import OwnerRemoved
from app.services.directory import Directory, claim_of
from app.services.linking.deferred import LateLinks, take_turn
from app.services.policy import Policy
from app.services.routing.cache import RouteCache

CHUNK: Final = 200
MAX_CHUNKS: Final = 25  # of one call, which a person waits for


def link_waiting(database: Database, routes: RouteCache, policy: Policy, *, clock: Callable[[], datetime]) -> int:
    """Link whatever can be linked by now, a chunk per transaction. The sweep announces the jobs that come of it."""
    total = 0
    while True:
        looked_at, _ = _in_one_transaction(database, routes, policy, clock=clock)
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
        looked_at, linked = _in_one_transaction(database, routes, policy, clock=clock, appeared=appeared, after=after)
        total += linked
        if len(looked_at) < CHUNK:
            break
        after = looked_at[-1]
    return total


def _in_one_transaction(
    database: Database,
    routes: RouteCache,
    policy: Policy,
    *,
    clock: Callable[[], datetime],
    appeared: Appeared | None = None,
    after: Key | None = None,
) -> tuple[list[Key], int]:
    """Whom it looked at, and how many of them are linked now."""
    current = routes.current(database)
    try:
        with database.write() as session:
            take_turn(session, policy)
            waiting = connection_rows.lock_waiting(session, limit=CHUNK, appeared=appeared, after=after)
            linked = _link(session, waiting, current, policy, now=clock())
    except (OwnerRemoved, IntegrityError):
        # Removed between the look and the commit: who they waited for is gone again.
        return [], 0
    return [one.key for one in waiting], linked


def _link(
    session: Session, waiting: Sequence[ConnectionRow], routes: RouteSet, policy: Policy, *, now: datetime
) -> int:
    """Whoever still cannot be linked gets the reason that holds now, so nobody is looked at over and over.

    Returns how many were linked.
    """
    claims = {one.id: claim_of(one, policy.tag_keys) for one in waiting}
    # Nobody is made here: with the policy `create` the event has made whom it could.
    directory = Directory(session, list(claims.values()), policy=DirectoryPolicy.REQUIRE, now=now)
    late = LateLinks(session, policy, routes, directory, waiting, now=now)
    found = {one.id: directory.resolve(claims[one.id]) for one in waiting}
    late.expect((one.key, owner) for one in waiting if isinstance(owner := found[one.id], Owner))
    linked = 0
    for connection in waiting:
        owner = found[connection.id]
        connection.updated_at = now
        if isinstance(owner, Unlinked):
            connection.unlinked_reason = owner.reason
        else:
            linked += late.open(connection, owner, linked_by=claims[connection.id].linked_by)
    late.write()
    return linked
