"""Connections that wait for their owner are linked once the user or organization appears (promise 5).

Opens short transactions, one per chunk of connections.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import owner_locks
from app.db.connections import Appeared, ConnectionKey, ConnectionState
from app.db.engine import Database
from app.domain.linking import DirectoryPolicy, Owner, Unlinked
from app.domain.routing import RouteSet
from app.services.directory import Directory, claim_of
from app.services.linking.deferred import DeferredLinks
from app.services.policy import Policy
from app.services.routing.cache import RouteCache

CHUNK: Final = 200
MAX_CHUNKS: Final = 25  # of one call, whose caller waits for it


def link_waiting(database: Database, routes: RouteCache, policy: Policy, *, clock: Callable[[], datetime]) -> int:
    """Link what can be linked by now, a chunk per transaction. The sweep announces the jobs that follow.

    Returns how many connections were examined.
    """
    total = 0
    while True:
        examined, _ = _in_one_transaction(database, routes, policy, clock=clock)
        total += len(examined)
        if len(examined) < CHUNK:
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
    """Link the connections that wait for owners who were just added or changed, up to `chunks` chunks of them.

    Called after that change's commit. What is left, and what an event makes wait at the same moment, is found by Beat's
    next `link_waiting`. Returns how many were linked.
    """
    if not appeared or policy.directory is DirectoryPolicy.SQL:
        return 0  # with `sql`, only the application's database names owners
    total, after = 0, None
    for _ in range(chunks):
        examined, linked = _in_one_transaction(database, routes, policy, clock=clock, appeared=appeared, after=after)
        total += linked
        if len(examined) < CHUNK:
            break
        after = examined[-1]
    return total


def _in_one_transaction(
    database: Database,
    routes: RouteCache,
    policy: Policy,
    *,
    clock: Callable[[], datetime],
    appeared: Appeared | None = None,
    after: ConnectionKey | None = None,
) -> tuple[list[ConnectionKey], int]:
    """The keys of the connections that were examined, and how many of them are linked now."""
    current = routes.current(database)
    with database.write() as session:
        owner_locks.begin_linking(session, supersedes=policy.supersedes_any)
        waiting = connection_rows.lock_waiting(session, limit=CHUNK, appeared=appeared, after=after)
        linked = _link(session, waiting, current, policy, now=clock())
    return [connection.key for connection in waiting], linked


def _link(
    session: Session, waiting: Sequence[ConnectionState], routes: RouteSet, policy: Policy, *, now: datetime
) -> int:
    """Link what can be linked, and note of each other connection the reason that holds now, so that it is not
    examined over and over. Returns how many were linked.
    """
    claims = {connection.id: claim_of(connection, policy.tag_keys) for connection in waiting}
    # No owner is created here: with the policy `create` the event has created those that it could.
    directory = Directory.load(session, list(claims.values()), policy=DirectoryPolicy.REQUIRE, now=now)
    deferred = DeferredLinks.load(session, policy, routes, directory, waiting, now=now)
    found = [(connection, directory.resolve(claims[connection.id])) for connection in waiting]
    deferred.load_others((connection.key, owner) for connection, owner in found if isinstance(owner, Owner))
    linked = 0
    for connection, owner in found:
        connection.updated_at = now
        if isinstance(owner, Unlinked):
            connection.unlinked_reason = owner.reason
        else:
            linked += deferred.open(connection, owner, linked_by=claims[connection.id].linked_by)
    deferred.write(session)
    return linked
