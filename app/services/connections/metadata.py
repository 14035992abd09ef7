"""Metadata of a connection, read and written at Nango; it is not stored locally."""

from collections.abc import Mapping
from uuid import UUID

from app.domain.json_values import JsonObject, json_object
from app.services.connections.operations import Operations, read_connection, remaining, require_not_deleted


def get_metadata(operations: Operations, connection_ref: UUID) -> Mapping[str, object]:
    """The metadata; empty where there is none. Raises NotFound, Conflict and NangoError."""
    connection = operations.find(connection_ref)
    require_not_deleted(connection)
    return read_connection(operations.client(connection.environment), connection, ends_at=operations.ends_at()).metadata


def set_metadata(operations: Operations, connection_ref: UUID, metadata: JsonObject, *, actor: str) -> None:
    """Replace the whole metadata. Raises InvalidInput before Nango is asked, NotFound, Conflict and NangoError."""
    _change(operations, connection_ref, metadata, actor=actor, merge=False)


def update_metadata(operations: Operations, connection_ref: UUID, metadata: JsonObject, *, actor: str) -> None:
    """Merge into the metadata, on its first level. Raises what `set_metadata` raises."""
    _change(operations, connection_ref, metadata, actor=actor, merge=True)


def _change(operations: Operations, connection_ref: UUID, metadata: JsonObject, *, actor: str, merge: bool) -> None:
    wanted = json_object(metadata, "metadata")
    connection = operations.find(connection_ref)
    require_not_deleted(connection)
    client = operations.client(connection.environment)
    action = "metadata.updated" if merge else "metadata.set"
    with (
        # Nango itself reads, merges and writes (Nango contract: Metadata): of two concurrent calls one would be lost.
        operations.exclusively(f"edit:{connection.shown}") as ends_at,
        operations.audited(actor=actor, action=action, subject=connection.shown, keys=sorted(wanted)),
    ):
        write = client.update_metadata if merge else client.set_metadata
        write(connection.integration, connection.connection_id, wanted, timeout=remaining(ends_at))
