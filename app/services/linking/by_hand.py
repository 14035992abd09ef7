"""Links that an operator closes, or has decided anew. Nango is not asked.

Each function opens its own short transaction. The sweep announces the jobs that follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, owner_locks
from app.db import connections as rows
from app.db.connections import ConnectionState
from app.db.engine import Database
from app.domain.linking import DirectoryPolicy, Owner, Unlinked, UnlinkedReason
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus
from app.errors import Conflict, NotFound
from app.ids import CONNECTION, show
from app.services.directory import Directory, claim_of
from app.services.linking.connection_changes import ConnectionChanges
from app.services.linking.deferred import DeferredLinks
from app.services.linking.superseding import Superseding
from app.services.policy import Policy
from app.services.routing.cache import RouteCache
from app.services.routing.precomputed_matches import Matches
from app.services.routing.router import Router


@dataclass(frozen=True, slots=True)
class Relinked:
    """linked: the connection has a link now. changed: it is another one than before. reason: why it has none.

    asked: the application's database decides, which is asked within seconds (directory policy `sql`).
    """

    linked: bool
    changed: bool
    reason: str | None = None
    asked: bool = False


def unlink(
    database: Database,
    routes: RouteCache,
    policy: Policy,
    connection_ref: UUID,
    *,
    reason: str | None,
    actor: str,
    clock: Callable[[], datetime],
) -> None:
    """Close the connection's link. It stays unlinked until its tags name another owner, or `relink` is called.

    reason: the operator's own, for the audit. Raises NotFound, and Conflict where there is no link.
    """
    current = routes.current(database)
    with database.write() as session:
        owner_locks.begin_linking(session, supersedes=policy.supersedes_any)
        close_link(session, current, policy, connection_ref, reason=reason, actor=actor, now=clock())


def close_link(
    session: Session,
    current: RouteSet,
    policy: Policy,
    connection_ref: UUID,
    *,
    reason: str | None,
    actor: str,
    now: datetime,
) -> None:
    """The same within the caller's transaction, by the current routes, behind `owner_locks.begin_linking`.

    What it raises, it raises before it writes.
    """
    connection = _locked(session, connection_ref)
    changes = ConnectionChanges.load(session, [connection], now=now)
    if changes.links.id_of(connection) is None:
        raise Conflict(f"{show(CONNECTION, connection_ref)} has no link to close")
    changes.links.close(connection, "by_operator")
    connection.unlinked_reason, connection.updated_at = UnlinkedReason.BY_OPERATOR, now
    connection.drift = connection.known_tags = connection.owner_look_at = None
    directory = Directory.load(session, (), policy=DirectoryPolicy.REQUIRE, now=now)
    router = Router(Matches(current), directory, now=now)
    if policy.supersedes_any:  # the owner's newest other connection has the link again
        Superseding(session, policy, changes, now=now).restore(router)
    changes.write()
    router.write(session)
    _record(session, connection, "connection.unlinked", {"reason": reason}, actor=actor, now=now)


def relink(
    database: Database,
    routes: RouteCache,
    policy: Policy,
    connection_ref: UUID,
    *,
    actor: str,
    clock: Callable[[], datetime],
) -> Relinked:
    """Decide the owner anew by the tags that are stored, and link the connection to it, a held change included.

    Raises NotFound, and Conflict for a deleted connection, one that a newer one superseded, and tags that name no
    owner. An owner that is not known leaves the connection as it is, with the reason.
    """
    current = routes.current(database)
    with database.write() as session:
        now = clock()
        owner_locks.begin_linking(session, supersedes=policy.supersedes_any)
        connection = _locked(session, connection_ref)
        _require_linkable(connection)
        claim = claim_of(connection, policy.tag_keys)
        if policy.directory is DirectoryPolicy.SQL:
            return _ask(session, connection, actor=actor, now=now)
        directory = Directory.load(session, [claim], policy=policy.directory, now=now)
        deferred = DeferredLinks.load(session, policy, current, directory, [connection], now=now)
        directory.load_owners(list(rows.open_links(session, [connection.id]).values()))  # the event shows them
        owner = directory.resolve(claim)
        if isinstance(owner, Unlinked):
            done = Relinked(deferred.owner_of(connection) is not None, False, owner.reason)
            if not done.linked:
                connection.unlinked_reason = owner.reason
        else:
            done = _give(deferred, connection, owner, linked_by=claim.linked_by)
        deferred.write(session)
        detail = {"linked": done.linked, "changed": done.changed, "reason": done.reason}
        _record(session, connection, "connection.relinked", detail, actor=actor, now=now)
        return done


def _give(deferred: DeferredLinks, connection: ConnectionState, owner: Owner, *, linked_by: str) -> Relinked:
    """Give the connection to the owner; a link to another one is closed."""
    if deferred.owner_of(connection) == owner:
        connection.drift = connection.known_tags = None
        return Relinked(True, False)
    deferred.load_others([(connection.key, owner)])
    connection.drift = connection.known_tags = None
    linked = deferred.open(connection, owner, linked_by=linked_by)
    return Relinked(linked, True, None if linked else connection.unlinked_reason)


def _ask(session: Session, connection: ConnectionState, *, actor: str, now: datetime) -> Relinked:
    """Have the application's database asked about an unlinked connection at Beat's next look."""
    if connection.unlinked_reason is None:
        raise Conflict("with the directory policy `sql` the application's database decides: change the owner there")
    connection.owner_look_at = connection.updated_at = now
    connection.unlinked_reason = UnlinkedReason.NO_OWNER_TAGS  # until it has answered
    rows.update(session, [connection])
    _record(session, connection, "connection.relinked", {"linked": False, "asked": True}, actor=actor, now=now)
    return Relinked(False, False, connection.unlinked_reason, asked=True)


def _locked(session: Session, connection_ref: UUID) -> ConnectionState:
    found = rows.lock_by_id(session, connection_ref)
    if found is None:
        raise NotFound("connection", show(CONNECTION, connection_ref))
    return found


def _require_linkable(connection: ConnectionState) -> None:
    shown = show(CONNECTION, connection.id)
    if connection.status == ConnectionStatus.DELETED:
        raise Conflict(f"{shown} is deleted", found={"status": connection.status})
    if connection.superseded_by is not None:
        raise Conflict(f"a newer connection of its owner has the link of {shown}: unlink that one first")
    if not (connection.wanted_user or connection.wanted_email or connection.wanted_organization):
        raise Conflict(f"the tags of {shown} name no owner: set them first")


def _record(
    session: Session,
    connection: ConnectionState,
    action: str,
    detail: Mapping[str, object],
    *,
    actor: str,
    now: datetime,
) -> None:
    subject = show(CONNECTION, connection.id)
    audit.record(session, actor=actor, action=action, subject=subject, now=now, detail=detail)
