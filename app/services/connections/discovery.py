"""A connection that is named by Nango's id and not known here: where Nango has it, it is made and linked."""

from typing import Final

from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.errors import Conflict, InvalidInput, NangoError, NangoInvalidRequest
from app.nango.types import ListedConnection
from app.services.connections.operations import Desk, remaining
from app.services.events.lookups import view_of

SOON: Final = 5.0  # seconds, by which a worker has made and linked it


def bring_in(desk: Desk, connection_id: str, *, integration: str | None, environment: str | None, actor: str) -> None:
    """Have the connections made that Nango shows under this id, and say so. Does nothing when there are none.

    integration, environment: None where any may be meant.

    Raises Conflict when they are being made, and NangoError when none was found and an environment could not be asked.
    """
    ends_at = desk.ends_at()
    brought, not_asked = 0, None
    for name, configured in sorted(desk.policy.environments.items()):
        if not configured.has_api or environment not in {None, name}:
            continue
        try:
            shown = _shown(desk, connection_id, environment=name, ends_at=ends_at)
        except NangoError as failed:
            not_asked = failed
            continue
        found = [one for one in shown if integration in {None, one.integration}]
        if found:
            _store(desk, connection_id, found, environment=name, actor=actor)
        brought += len(found)
    if brought:
        what = f"connection {connection_id!r} was not known here. Nango has it, so it is made and linked now"
        raise Conflict(f"{what}: try again in a few seconds", retry_after=SOON)
    if not_asked is not None:
        raise not_asked


def _shown(desk: Desk, connection_id: str, *, environment: str, ends_at: float) -> list[ListedConnection]:
    """What Nango's list shows under this id; nothing for an id that it takes no question about."""
    try:
        page = desk.client(environment).list_connections(connection_id=connection_id, timeout=remaining(ends_at))
    except (InvalidInput, NangoInvalidRequest):
        return []
    return list(page.connections)


def _store(desk: Desk, connection_id: str, found: list[ListedConnection], *, environment: str, actor: str) -> None:
    """Store what was shown as events, which the workers process."""
    kind = EventType.CONNECTION_CREATED
    events = [
        OwnEvent(type=kind, integration=one.integration, connection_id=one.connection_id, look=view_of(one))
        for one in found
    ]
    with (
        desk.audited(actor=actor, action="connection.found", subject=connection_id, environment=environment) as act,
        desk.database.write() as session,
    ):
        desk.store(session, events, environment=environment)
        act.conclude(session)
