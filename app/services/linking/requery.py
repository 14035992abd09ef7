"""With the directory policy `sql`: ask the application's database again for the owners of waiting connections.

Opens short transactions, none while the application's database is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import owner_locks
from app.db.connections import ConnectionState
from app.db.engine import Database
from app.deadlines import OWNER_LOOKUP_LEASE
from app.domain.linking import Claim, DirectoryPolicy, Owner, TagKeys, Unlinked, UnlinkedReason
from app.domain.owner_queries import Named, next_owner_query
from app.domain.routing import RouteSet
from app.services.directory import Directory, claim_of
from app.services.linking.deferred import DeferredLinks
from app.services.linking.waiting import CHUNK
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.sql_directory import Question, SqlDirectory


def ask_again(
    database: Database, policy: Policy, routes: RouteCache, directory: SqlDirectory, *, clock: Callable[[], datetime]
) -> int:
    """Claim due connections, ask with no transaction open, then link. Returns how many were asked about.

    Where the database does not answer, they are due again when their lease ends.
    """
    total = 0
    while True:
        with database.write() as session:
            now = clock()
            due = connection_rows.claim_owner_lookups(session, limit=CHUNK, now=now, lease=OWNER_LOOKUP_LEASE)
        answers = directory.ask(_question(connection, policy.tag_keys) for connection in due)
        named = {
            connection.id: answer for connection, answer in zip(due, answers, strict=True) if isinstance(answer, Named)
        }
        if named:
            current = routes.current(database)
            with database.write() as session:
                _link(session, policy, due, named, current, now=clock())
        total += len(named)
        if len(due) < CHUNK or not named:
            return total


def _question(connection: ConnectionState, keys: TagKeys) -> Question:
    claim = claim_of(connection, keys)
    return Question(connection.tags, claim if claim.user_id or claim.email or claim.organization_id else None)


def _link(
    session: Session,
    policy: Policy,
    asked: Sequence[ConnectionState],
    named: Mapping[UUID, Named],
    routes: RouteSet,
    *,
    now: datetime,
) -> None:
    owner_locks.begin_linking(session, supersedes=policy.supersedes_any)
    known = {connection.id: connection for connection in asked}
    locked = connection_rows.lock(session, [row.key for row in asked if row.id in named]).values()
    # What an event has changed meanwhile was asked about anew by that event.
    waiting = [row for row in locked if row.id in named and _is_as_asked(row, known[row.id])]
    answers = [(row, named[row.id].claim) for row in waiting]
    claims = [claim for _, claim in answers if isinstance(claim, Claim)]
    directory = Directory.load(session, claims, policy=DirectoryPolicy.SQL, now=now)
    deferred = DeferredLinks.load(session, policy, routes, directory, waiting, now=now)
    found = [(row, claim, directory.resolve(claim) if isinstance(claim, Claim) else claim) for row, claim in answers]
    deferred.load_others((row.key, owner) for row, _, owner in found if isinstance(owner, Owner))
    for connection, claim, owner in found:
        if isinstance(claim, Claim) and isinstance(owner, Owner):
            connection.owner_look_at = None
            deferred.open(connection, owner, linked_by=claim.linked_by)
            continue
        connection.unlinked_reason = owner.reason if isinstance(owner, Unlinked) else UnlinkedReason.NO_OWNER_TAGS
        connection.owner_look_at = next_owner_query(now=now, since=connection.updated_at)
    deferred.write(session)


def _is_as_asked(now: ConnectionState, then: ConnectionState) -> bool:
    return now.unlinked_reason is not None and (now.owner_look_at, now.tags) == (then.owner_look_at, then.tags)
