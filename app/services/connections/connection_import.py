"""Import of a connection that is named by Nango's id and is not known locally.

Opens short transactions, none while Nango is asked.
"""

from typing import Final

from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.errors import Conflict, InvalidInput, NangoError, NangoInvalidRequest
from app.nango.types import ListedConnection
from app.services.connections.operations import Operations, remaining
from app.services.events.lookups import snapshot_of

SOON: Final = 5.0  # seconds within which a worker has usually created and linked it


def import_missing(
    operations: Operations, connection_id: str, *, integration: str | None, environment: str | None, actor: str
) -> None:
    """Store `connection.created` for each connection that Nango lists under this id; without any, do nothing.

    integration, environment: None for any.

    Raises Conflict when connections are being imported, and NangoError when none was found and an environment could not
    be asked.
    """
    ends_at = operations.ends_at()
    brought, not_asked = 0, None
    for name, configured in sorted(operations.policy.environments.items()):
        if not configured.has_api or environment not in {None, name}:
            continue
        try:
            shown = _shown(operations, connection_id, environment=name, ends_at=ends_at)
        except NangoError as failed:
            not_asked = failed
            continue
        found = [listed for listed in shown if integration in {None, listed.integration}]
        if found:
            _store(operations, connection_id, found, environment=name, actor=actor)
        brought += len(found)
    if brought:
        what = f"connection {connection_id!r} was not known here. Nango has it, so it is made and linked now"
        raise Conflict(f"{what}: try again in a few seconds", retry_after=SOON)
    if not_asked is not None:
        raise not_asked


def _shown(operations: Operations, connection_id: str, *, environment: str, ends_at: float) -> list[ListedConnection]:
    """Connections in Nango's list with this id; none for an id that Nango's API rejects."""
    try:
        page = operations.client(environment).list_connections(connection_id=connection_id, timeout=remaining(ends_at))
    except (InvalidInput, NangoInvalidRequest):
        return []
    return list(page.connections)


def _store(
    operations: Operations, connection_id: str, found: list[ListedConnection], *, environment: str, actor: str
) -> None:
    """Store the listed connections as events, which the workers process."""
    kind = EventType.CONNECTION_CREATED
    events = [
        OwnEvent(
            type=kind,
            integration=listed.integration,
            connection_id=listed.connection_id,
            lookup=snapshot_of(listed),
        )
        for listed in found
    ]
    with (
        operations.audited(
            actor=actor, action="connection.found", subject=connection_id, environment=environment
        ) as audited,
        operations.database.write() as session,
    ):
        operations.store(session, events, environment=environment)
        audited.conclude(session)
