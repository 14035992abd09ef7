"""Deletion of a connection, at Nango and locally.

Opens short transactions, none while Nango is asked.
"""

from dataclasses import dataclass
from uuid import UUID

from app.domain.confirming import Absent
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.errors import NangoConnectionNotFound
from app.services.connections.operations import Operations, read_from_list, remaining, require_not_deleted, require_same


@dataclass(frozen=True, slots=True)
class DeletionResult:
    """`was_gone`: Nango no longer had the connection; the local records are closed all the same."""

    was_gone: bool


def delete(operations: Operations, connection_ref: UUID, *, actor: str, reason: str | None = None) -> DeletionResult:
    """Delete the connection at Nango, close its link and route `connection.deleted`. Nothing is revoked at the
    provider. reason: the operator's own, for the audit.

    Raises NotFound, Conflict where it is already deleted or was recreated meanwhile, and NangoError.
    """
    connection = operations.find(connection_ref)
    require_not_deleted(connection)
    client = operations.client(connection.environment)
    told = {"reason": reason} if reason is not None else {}
    with (
        operations.exclusively(f"edit:{connection.shown}") as ends_at,
        operations.audited(actor=actor, action="connection.deleted", subject=connection.shown, **told) as audited,
    ):
        was_gone = False
        try:
            # The same ids may by now belong to another connection, which the caller did not ask to delete.
            require_same(connection, read_from_list(client, connection, ends_at=ends_at))
        except NangoConnectionNotFound:
            was_gone = True  # or too new for the list
        try:
            client.delete_connection(connection.integration, connection.connection_id, timeout=remaining(ends_at))
            was_gone = False
        except NangoConnectionNotFound:
            was_gone = True
        # A deletion seen by a webhook needs two absences (promise 3); Nango's answer to the deletion needs none.
        gone = OwnEvent(
            type=EventType.CONNECTION_DELETED,
            integration=connection.integration,
            connection_id=connection.connection_id,
            lookup=Absent(client.now(), again=True),
        )
        audited.detail["was_gone"] = was_gone
        with operations.database.write() as session:
            operations.store(session, [gone], environment=connection.environment, connection_ref=connection.ref)
            audited.conclude(session)
    return DeletionResult(was_gone)
