"""Close links that were opened before their integration's duplicates policy became `supersede`.

Opens short transactions, one per chunk of links.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from app.db import audit, owner_locks
from app.db import connections as rows
from app.db.engine import Database
from app.db.read import sibling_connections
from app.db.read.sibling_connections import OwnerIntegration
from app.domain.linking import DirectoryPolicy
from app.domain.routing import RouteSet
from app.domain.states import AuditOutcome
from app.errors import InvalidInput
from app.services.directory import Directory
from app.services.linking.deferred import DeferredLinks
from app.services.policy import Policy
from app.services.routing.cache import RouteCache

CHUNK: Final = 50  # owners of one transaction, with all their connections to an integration


@dataclass(frozen=True, slots=True)
class DuplicateCounts:
    """owners: those with several linked connections to an integration. links: of the older ones, by integration."""

    owners: int = 0
    links: Counter[str] = field(default_factory=Counter)


def count(database: Database, policy: Policy) -> DuplicateCounts:
    """Count what `supersede` would close. Raises InvalidInput where no integration has the policy."""
    found = _found(database, policy)
    links: Counter[str] = Counter()
    for place, connections in found:
        links[place.integration] += connections - 1
    return DuplicateCounts(len(found), links)


def supersede(
    database: Database,
    policy: Policy,
    routes: RouteCache,
    *,
    actor: str,
    clock: Callable[[], datetime],
    reason: str | None = None,
) -> DuplicateCounts:
    """Close each owner's links but the newest connection's, a chunk per transaction. Nothing is deleted in Nango.

    reason: the operator's own, for the audit.

    Raises InvalidInput where no integration has the policy.
    """
    found = [place for place, _ in _found(database, policy)]
    told = {"reason": reason} if reason is not None else {}
    with database.write() as session:
        begun = audit.record(
            session,
            actor=actor,
            action="links.superseded",
            subject="connections",
            now=clock(),
            outcome=AuditOutcome.BEGUN,
            detail=told,
        )
    links: Counter[str] = Counter()
    for start in range(0, len(found), CHUNK):
        links += _close(database, policy, found[start : start + CHUNK], routes.current(database), clock=clock)
    detail = {**told, "owners": len(found), "links_closed": dict(links)}
    with database.write() as session:
        audit.conclude(session, begun, AuditOutcome.DONE, detail)
    return DuplicateCounts(len(found), links)


def _found(database: Database, policy: Policy) -> list[tuple[OwnerIntegration, int]]:
    if not policy.supersedes_any:
        raise InvalidInput("no integration has the policy `supersede`: say so in [duplicates] of waylink.toml")
    with database.read() as session:
        return [
            place for place in sibling_connections.shared_places(session) if policy.supersedes(place[0].integration)
        ]


def _close(
    database: Database,
    policy: Policy,
    places: Sequence[OwnerIntegration],
    routes: RouteSet,
    *,
    clock: Callable[[], datetime],
) -> Counter[str]:
    with database.write() as session:
        now = clock()
        owner_locks.begin_linking(session, supersedes=policy.supersedes_any)
        wanted = {(place.environment, place.integration, place.owner) for place in places}
        connections = rows.lock_linked(session, wanted)
        directory = Directory.load(session, (), policy=DirectoryPolicy.REQUIRE, now=now)
        deferred = DeferredLinks.load(session, policy, routes, directory, connections, now=now)
        closed = Counter({place.integration: 0 for place in places})
        for place in places:
            closed[place.integration] += deferred.keep_newest(place.environment, place.integration, place.owner)
        deferred.write(session)
        return closed
