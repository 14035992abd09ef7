"""Edits of a connection's tags. Nango writes only the whole set, so a single tag is read, merged, written and read
back.

Opens short transactions, none while Nango is asked.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from app.domain import tags as tag_rules
from app.domain.confirming import Snapshot
from app.domain.event import EventType
from app.domain.linking import restored_tags
from app.domain.own_event import OwnEvent
from app.errors import Conflict, InvalidTags, TagFault
from app.nango.client import NangoClient
from app.services.connections.current_tags import freshest, known_tags
from app.services.connections.operations import (
    AuditedAction,
    FetchedConnection,
    Operations,
    StoredConnection,
    read_connection,
    remaining,
    require_not_deleted,
    require_same,
)


@dataclass(frozen=True, slots=True)
class TagChange:
    """The tags as Nango has them now. `elsewhere`: they had been changed at Nango without a record here."""

    tags: Mapping[str, str]
    changed: bool
    elsewhere: bool


def set_tags(
    operations: Operations,
    connection_ref: UUID,
    tags: Mapping[str, str],
    *,
    actor: str,
    expected: Mapping[str, str] | None = None,
) -> TagChange:
    """Replace all tags; `{}` clears them. expected: refuse the edit where Nango has other tags.

    Raises InvalidTags before Nango is asked, NotFound, Conflict and NangoError.
    """
    wanted = tag_rules.normalize(tags)
    before = tag_rules.normalize(expected) if expected is not None else None
    return _edit(
        operations,
        operations.find(connection_ref),
        lambda _found: wanted,
        actor=actor,
        action="tags.set",
        expected=before,
    )


def add_tags(operations: Operations, connection_ref: UUID, tags: Mapping[str, str], *, actor: str) -> TagChange:
    """Add or change these tags and leave the others. Raises what `set_tags` raises, InvalidTags for an eleventh one."""
    added = tag_rules.normalize(tags)
    return _edit(
        operations, operations.find(connection_ref), lambda found: {**found, **added}, actor=actor, action="tags.added"
    )


def remove_tags(operations: Operations, connection_ref: UUID, keys: Collection[str], *, actor: str) -> TagChange:
    """Remove these tags and leave the others; a missing tag is no error. Raises what `set_tags` raises."""
    gone = set(tag_rules.normalize(dict.fromkeys(keys, "a@b.example")))  # checks the keys; the value is a dummy

    def without(found: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in found.items() if key not in gone}

    return _edit(operations, operations.find(connection_ref), without, actor=actor, action="tags.removed")


def restore_tags(operations: Operations, connection_ref: UUID, *, actor: str) -> TagChange:
    """End a drift: restore the tags that carried the link. Current tags that name no owner stay.

    Raises Conflict where there is no drift, or none whose tags are known; else what `set_tags` raises.
    """
    connection = operations.find(connection_ref)
    lost = connection.known_tags
    if lost is None:
        raise Conflict(f"{connection.shown} has no tags to put back: they carry its link, or no tags ever did")

    def restored(found: Mapping[str, str]) -> dict[str, str]:
        return restored_tags(lost, found, operations.policy.tag_keys)

    return _edit(operations, connection, restored, actor=actor, action="tags.restored")


def _edit(
    operations: Operations,
    connection: StoredConnection,
    change: Callable[[Mapping[str, str]], dict[str, str]],
    *,
    actor: str,
    action: str,
    expected: Mapping[str, str] | None = None,
) -> TagChange:
    require_not_deleted(connection)
    client = operations.client(connection.environment)
    with (
        operations.exclusively(f"edit:{connection.shown}") as ends_at,
        operations.audited(actor=actor, action=action, subject=connection.shown) as audited,
    ):
        fetched = read_connection(client, connection, ends_at=ends_at)
        ours = known_tags(operations, connection)
        before = freshest(fetched, ours)
        require_same(connection, before)
        if expected is not None and before.snapshot.tags != expected:
            raise Conflict("Nango has other tags than expected", found={"tags": dict(before.snapshot.tags)})
        wanted = _checked(change(before.snapshot.tags))
        audited.detail |= _difference(before.snapshot.tags, wanted)
        elsewhere = before.snapshot.tags != ours.tags
        if wanted == before.snapshot.tags:
            _record(operations, connection, before.snapshot, audited)
            return TagChange(wanted, changed=False, elsewhere=elsewhere)
        after = _write(client, connection, wanted, before, ends_at=ends_at)
        _record(operations, connection, after, audited)
        if after.tags != wanted:
            raise Conflict(
                "somebody else changed the tags at Nango at the same time: look at what is there now, and try again",
                found={"tags": dict(after.tags)},
            )
        return TagChange(wanted, changed=True, elsewhere=elsewhere)


def _write(
    client: NangoClient,
    connection: StoredConnection,
    wanted: Mapping[str, str],
    before: FetchedConnection,
    *,
    ends_at: float,
) -> Snapshot:
    """Write the tags, and read back the result."""
    written_at = client.now()
    client.set_tags(connection.integration, connection.connection_id, wanted, timeout=remaining(ends_at))
    after = read_connection(client, connection, ends_at=ends_at)
    if after.exact:
        return after.snapshot
    # Only the list can be read, and it lags: that Nango accepted the tags is the newest information.
    return replace(before.snapshot, tags=dict(wanted), observed_at=written_at)


def _record(operations: Operations, connection: StoredConnection, snapshot: Snapshot, audited: AuditedAction) -> None:
    """Store the observed tags as an event, so that record, link and routes follow."""
    found = OwnEvent(
        type=EventType.CONNECTION_TAGS_CHANGED,
        integration=connection.integration,
        connection_id=connection.connection_id,
        lookup=snapshot,
    )
    with operations.database.write() as session:
        if snapshot.tags != connection.tags or audited.detail["keys"]:
            operations.store(session, [found], environment=connection.environment, connection_ref=connection.ref)
        audited.conclude(session)


def _checked(tags: dict[str, str]) -> dict[str, str]:
    """The merged tags. Raises InvalidTags: each tag was valid by itself, but together they may be too many."""
    faults: list[TagFault] = tag_rules.check(tags)
    if faults:
        raise InvalidTags(faults)
    return tags


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str]]:
    """Keys that change. Values are left out: they name people, and the audit is kept for a year."""
    return {"keys": sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))}
