"""Delete a connection, in Nango and here."""

from dataclasses import dataclass
from uuid import UUID

from app.domain.confirming import Absent
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.errors import NangoConnectionNotFound
from app.services.connections.operations import Desk, listed, remaining, require_not_deleted, require_same


@dataclass(frozen=True, slots=True)
class Deleted:
    """`was_gone`: Nango did not have it any more; what is known here follows all the same."""

    was_gone: bool


def delete(desk: Desk, connection_ref: UUID, *, actor: str) -> Deleted:
    """Delete it at Nango, which revokes nothing at the provider; its link is closed and `connection.deleted` routed.

    Raises NotFound, Conflict where it is deleted or was made anew meanwhile, and NangoError.
    """
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)
    client = desk.client(subject.environment)
    with (
        desk.alone(f"edit:{subject.shown}") as ends_at,
        desk.audited(actor=actor, action="connection.deleted", subject=subject.shown) as act,
    ):
        was_gone = False
        try:
            # Under the same ids there may be another connection by now, which nobody asked to delete.
            require_same(subject, listed(client, subject, ends_at=ends_at))
        except NangoConnectionNotFound:
            was_gone = True  # or too new for the list
        try:
            client.delete_connection(subject.integration, subject.connection_id, timeout=remaining(ends_at))
            was_gone = False
        except NangoConnectionNotFound:
            was_gone = True
        # A deletion is believed after two absences (promise 3); Nango's own word for it is more than that.
        gone = OwnEvent(
            type=EventType.CONNECTION_DELETED,
            integration=subject.integration,
            connection_id=subject.connection_id,
            look=Absent(client.now(), again=True),
        )
        act.detail["was_gone"] = was_gone
        with desk.database.write() as session:
            desk.store(session, [gone], environment=subject.environment, connection_ref=subject.ref)
            act.conclude(session)
    return Deleted(was_gone)
