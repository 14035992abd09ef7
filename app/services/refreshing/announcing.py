"""Events that a refresh concludes about its connection, stored and routed in the transaction that records it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.db.connections import ConnectionState
from app.domain.event import EventError, EventType
from app.domain.routing import RouteSet
from app.domain.states import Origin
from app.ids import CONNECTION, show
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
        payload = _how_to_reconnect(connection) if kind is EventType.CONNECTION_NEEDS_RECONNECT else None
        router.emit(kind, connection, owner=owner, confirmed=True, origin=Origin.REFRESH, error=error, payload=payload)
    router.write(session)


def _how_to_reconnect(connection: ConnectionState) -> dict[str, object]:
    """The payload of `connection.needs_reconnect`: since when it fails, and how to get a session for its end user."""
    shown = show(CONNECTION, connection.id)
    return {
        "connection": shown,
        "failing_since": connection.failing_since.isoformat() if connection.failing_since else None,
        "expires_at": connection.expires_at.isoformat() if connection.expires_at else None,
        "to_do": "send the end user to the connect_link of a reconnect session, which keeps the connection's tags",
        "reconnect": {"method": "POST", "path": f"/api/v1/connections/{shown}/reconnect-sessions", "body": {}},
    }
