"""Events that a refresh concludes about its connection, stored and routed in the transaction that records it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.db.connections import ConnectionState
from app.domain.event import EventError, EventType
from app.domain.routing import RouteSet
from app.domain.states import Origin
from app.services.directory import Directory
from app.services.linking.links import Links
from app.services.policy import Policy
from app.services.routing.precomputed_matches import Matches
from app.services.routing.router import Router


def emit(
    session: Session,
    connection: ConnectionState,
    events: Sequence[tuple[EventType, EventError]],
    policy: Policy,
    routes: RouteSet,
    *,
    now: datetime,
) -> None:
    """Store and route these events of the connection, with its owner."""
    if not events:
        return
    links = Links(session, now=now)
    links.load([connection.id])
    directory = Directory(session, policy=policy.directory, now=now)
    directory.load_owners(links.all())
    router = Router(Matches(routes), directory, now=now)
    for kind, error in events:
        owner = links.owner_of(connection)
        router.emit(kind, connection, owner=owner, confirmed=True, origin=Origin.REFRESH, error=error)
    router.write(session)
