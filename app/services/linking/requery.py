"""With the policy `sql`: connections that wait are asked about again, until the application's database names them.

Opens short transactions, none while the application's database is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db.connections import ConnectionRow
from app.db.engine import Database
from app.deadlines import OWNER_LOOKUP_LEASE
from app.domain.answering import Named, next_owner_look
from app.domain.linking import Claim, DirectoryPolicy, Owner, TagKeys, Unlinked, UnlinkedReason
from app.domain.routing import RouteSet
from app.errors import OwnerRemoved
from app.services.directory import Directory, claim_of
from app.services.linking.deferred import LateLinks, take_turn
from app.services.linking.pending import CHUNK
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.sql_directory import Question, SqlDirectory


def ask_again(
    database: Database, policy: Policy, routes: RouteCache, directory: SqlDirectory, *, clock: Callable[[], datetime]
) -> int:
    """Claim who is due, ask with no transaction open, then link. Returns how many were asked about.

    While the database does not answer, the end of the lease is when they are due again.
    """
    total = 0
    while True:
        with database.write() as session:
            now = clock()
            due = connection_rows.claim_owner_looks(session, limit=CHUNK, now=now, lease=OWNER_LOOKUP_LEASE)
        answers = directory.ask(_question(one, policy.tag_keys) for one in due)
        named = {one.id: answer for one, answer in zip(due, answers, strict=True) if isinstance(answer, Named)}
        if named:
            _record(database, policy, due, named, routes.current(database), clock=clock)
        total += len(named)
        if len(due) < CHUNK or not named:
            return total


def _question(connection: ConnectionRow, keys: TagKeys) -> Question:
    claim = claim_of(connection, keys)
    return Question(connection.tags, claim if claim.user_id or claim.email or claim.organization_id else None)


def _record(
    database: Database,
    policy: Policy,
    asked: Sequence[ConnectionRow],
    named: Mapping[UUID, Named],
    routes: RouteSet,
    *,
    clock: Callable[[], datetime],
) -> None:
    try:
        with database.write() as session:
            _link(session, policy, asked, named, routes, now=clock())
    except (OwnerRemoved, IntegrityError):
        return  # whom it named was removed at this very moment, or made by somebody else: after the lease, once more


def _link(
    session: Session,
    policy: Policy,
    asked: Sequence[ConnectionRow],
    named: Mapping[UUID, Named],
    routes: RouteSet,
    *,
    now: datetime,
) -> None:
    take_turn(session, policy)
    known = {one.id: one for one in asked}
    locked = connection_rows.lock(session, [one.key for one in asked if one.id in named]).values()
    # What an event has changed meanwhile was asked about anew by that event.
    waiting = [one for one in locked if one.id in named and _is_as_asked(one, known[one.id])]
    claims = [claim for one in waiting if isinstance(claim := named[one.id].claim, Claim)]
    directory = Directory(session, claims, policy=DirectoryPolicy.SQL, now=now)
    late = LateLinks(session, policy, routes, directory, waiting, now=now)
    answers = [(one, named[one.id].claim) for one in waiting]
    found = [(one, claim, directory.resolve(claim) if isinstance(claim, Claim) else claim) for one, claim in answers]
    late.expect((one.key, owner) for one, _, owner in found if isinstance(owner, Owner))
    for connection, claim, owner in found:
        if isinstance(claim, Claim) and isinstance(owner, Owner):
            connection.owner_look_at = None
            late.open(connection, owner, linked_by=claim.linked_by)
            continue
        connection.unlinked_reason = owner.reason if isinstance(owner, Unlinked) else UnlinkedReason.NO_OWNER_TAGS
        connection.owner_look_at = next_owner_look(now=now, since=connection.updated_at)
    late.write()


def _is_as_asked(now: ConnectionRow, then: ConnectionRow) -> bool:
    return now.unlinked_reason is not None and (now.owner_look_at, now.tags) == (then.owner_look_at, then.tags)
