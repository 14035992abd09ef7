"""Metadata of a connection: it is Nango's alone, and nothing of it is kept here."""

from collections.abc import Mapping
from uuid import UUID

from app.domain.json_values import JsonObject, json_object
from app.services.connections.operations import Desk, read, remaining, require_not_deleted


def get_metadata(desk: Desk, connection_ref: UUID) -> Mapping[str, object]:
    """The metadata; empty where there is none. Raises NotFound, Conflict and NangoError."""
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)
    return read(desk.client(subject.environment), subject, ends_at=desk.ends_at()).metadata


def set_metadata(desk: Desk, connection_ref: UUID, metadata: JsonObject, *, actor: str) -> None:
    """Replace the whole of it. Raises InvalidInput before Nango is asked, NotFound, Conflict and NangoError."""
    _change(desk, connection_ref, metadata, actor=actor, merge=False)


def update_metadata(desk: Desk, connection_ref: UUID, metadata: JsonObject, *, actor: str) -> None:
    """Merge into it, on its first level. Raises what `set_metadata` raises."""
    _change(desk, connection_ref, metadata, actor=actor, merge=True)


def _change(desk: Desk, connection_ref: UUID, metadata: JsonObject, *, actor: str, merge: bool) -> None:
    wanted = json_object(metadata, "metadata")
    subject = desk.subject(connection_ref)
    require_not_deleted(subject)
    client = desk.client(subject.environment)
    action = "metadata.updated" if merge else "metadata.set"
    with (
        # Nango itself reads, merges and writes (Nango contract: Metadata): two of ours at once would lose one.
        desk.alone(f"edit:{subject.shown}") as ends_at,
        desk.audited(actor=actor, action=action, subject=subject.shown, keys=sorted(wanted)),
    ):
        write = client.update_metadata if merge else client.set_metadata
        write(subject.integration, subject.connection_id, wanted, timeout=remaining(ends_at))
