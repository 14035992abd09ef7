"""Events that a refresh concludes about its connection, stored and routed in the transaction that records it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.db.connections import ConnectionState
from app.domain.event import EventError, EventType
from app.domain.refreshing.expiring import GRANT_EXPIRING, ClockState, announcements
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.routing import RouteSet
from app.domain.states import Origin
from app.ids import CONNECTION, show
from app.services.directory import Directory
from app.services.linking.links import Links
from app.services.policy import Policy
from app.services.routing.precomputed_matches import Matches
from app.services.routing.router import Router
from app.telemetry import get_logger

log = get_logger(__name__)


def clock_state(
    connection: ConnectionState, *, previous_grant_at: datetime | None = None, has_renewed: bool = False
) -> ClockState:
    """The connection's clocks. previous_grant_at: the grant's deadline before the look, has_renewed: what it showed."""
    return ClockState(
        expires_at=connection.expires_at,
        grant_at=connection.grant_expires_at,
        grant_reason=connection.grant_reason,
        renewed_at=connection.renewed_at,
        authorized_at=connection.authorized_at,
        auth_mode=connection.auth_mode or "",
        not_refreshable=connection.not_refreshable,
        announced_expiry=connection.announced_expiry,
        announced_grant=connection.announced_grant,
        previous_grant_at=previous_grant_at,
        has_renewed=has_renewed,
    )


def due_announcements(
    connection: ConnectionState, policy: RefreshPolicy, state: ClockState, *, now: datetime
) -> list[EventError]:
    """The deadlines to announce now, noted on the connection as announced."""
    found = announcements(state, policy, now=now)
    for one in found:
        if one.error.type == GRANT_EXPIRING:
            connection.announced_grant = one.at
        else:
            connection.announced_expiry = one.at
        log.warning("token_expiring", connection=show(CONNECTION, connection.id), problem=one.error.description)
    return [one.error for one in found]


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
