"""Tags: set all of them, or one. Nango knows the whole only, so one is read, merged, written and read again."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from uuid import UUID

from app.domain import tags as tag_rules
from app.domain.confirming import View
from app.domain.event import EventType
from app.domain.linking import put_back
from app.domain.own_event import OwnEvent
from app.errors import Conflict, InvalidTags, TagFault
from app.nango.client import NangoClient
from app.services.connections.operations import (
    Act,
    Desk,
    Seen,
    Subject,
    read,
    remaining,
    require_not_deleted,
    require_same,
)
from app.services.connections.tag_snapshots import current, known


@dataclass(frozen=True, slots=True)
class TagChange:
    """The tags as Nango has them now. `elsewhere`: they had been changed there without our knowing of it."""

    tags: Mapping[str, str]
    changed: bool
    elsewhere: bool


def set_tags(
    desk: Desk,
    connection_ref: UUID,
    tags: Mapping[str, str],
    *,
    actor: str,
    expected: Mapping[str, str] | None = None,
) -> TagChange:
    """Replace all tags; `{}` clears them. expected: refuse where Nango has others.

    Raises InvalidTags before Nango is asked, NotFound, Conflict and NangoError.
    """
    wanted = tag_rules.normalize(tags)
    before = tag_rules.normalize(expected) if expected is not None else None
    return _edit(
        desk, desk.subject(connection_ref), lambda _found: wanted, actor=actor, action="tags.set", expected=before
    )


def add_tags(desk: Desk, connection_ref: UUID, tags: Mapping[str, str], *, actor: str) -> TagChange:
    """Add or change these tags and leave the others. Raises what `set_tags` raises, InvalidTags for an eleventh one."""
    added = tag_rules.normalize(tags)
    return _edit(desk, desk.subject(connection_ref), lambda found: {**found, **added}, actor=actor, action="tags.added")


def remove_tags(desk: Desk, connection_ref: UUID, keys: Collection[str], *, actor: str) -> TagChange:
    """Remove these tags and leave the others; one that is not there is no error. Raises what `set_tags` raises."""
    gone = set(tag_rules.normalize(dict.fromkeys(keys, "a@b.example")))  # for the rules of keys

    def without(found: Mapping[str, str]) -> dict[str, str]:
        return {key: value for key, value in found.items() if key not in gone}

    return _edit(desk, desk.subject(connection_ref), without, actor=actor, action="tags.removed")


def restore_tags(desk: Desk, connection_ref: UUID, *, actor: str) -> TagChange:
    """End a drift: put back the tags that carried the link. Tags of today that name no owner stay as they are.

    Raises Conflict where there is no drift, or none whose tags are known; else what `set_tags` raises.
    """
    subject = desk.subject(connection_ref)
    lost = subject.known_tags
    if lost is None:
        raise Conflict(f"{subject.shown} has no tags to put back: they carry its link, or no tags ever did")

    def restored(found: Mapping[str, str]) -> dict[str, str]:
        return put_back(lost, found, desk.policy.tag_keys)

    return _edit(desk, subject, restored, actor=actor, action="tags.restored")


def _edit(
    desk: Desk,
    subject: Subject,
    change: Callable[[Mapping[str, str]], dict[str, str]],
    *,
    actor: str,
    action: str,
    expected: Mapping[str, str] | None = None,
) -> TagChange:
    require_not_deleted(subject)
    client = desk.client(subject.environment)
    with (
        desk.alone(f"edit:{subject.shown}") as ends_at,
        desk.audited(actor=actor, action=action, subject=subject.shown) as act,
    ):
        seen = read(client, subject, ends_at=ends_at)
        ours = known(desk, subject)
        before = current(seen, ours)
        require_same(subject, before)
        if expected is not None and before.view.tags != expected:
            raise Conflict("Nango has other tags than expected", found={"tags": dict(before.view.tags)})
        wanted = _checked(change(before.view.tags))
        act.detail |= _difference(before.view.tags, wanted)
        elsewhere = before.view.tags != ours.tags
        if wanted == before.view.tags:
            _record(desk, subject, before.view, act)
            return TagChange(wanted, changed=False, elsewhere=elsewhere)
        after = _write(client, subject, wanted, before, ends_at=ends_at)
        _record(desk, subject, after, act)
        if after.tags != wanted:
            raise Conflict(
                "somebody else changed the tags at Nango at the same time: look at what is there now, and try again",
                found={"tags": dict(after.tags)},
            )
        return TagChange(wanted, changed=True, elsewhere=elsewhere)


def _write(client: NangoClient, subject: Subject, wanted: Mapping[str, str], before: Seen, *, ends_at: float) -> View:
    """Write, and read what is there then."""
    written_at = client.now()
    client.set_tags(subject.integration, subject.connection_id, wanted, timeout=remaining(ends_at))
    after = read(client, subject, ends_at=ends_at)
    if after.exact:
        return after.view
    # Only the list can be read, and it lags: that Nango took the tags is the newest there is to know.
    return replace(before.view, tags=dict(wanted), observed_at=written_at)


def _record(desk: Desk, subject: Subject, view: View, act: Act) -> None:
    """What Nango showed goes through the one pipeline, so that record, link and routes follow."""
    found = OwnEvent(
        type=EventType.CONNECTION_TAGS_CHANGED,
        integration=subject.integration,
        connection_id=subject.connection_id,
        look=view,
    )
    with desk.database.write() as session:
        if view.tags != subject.tags or act.detail["keys"]:
            desk.store(session, [found], environment=subject.environment, connection_ref=subject.ref)
        act.conclude(session)


def _checked(tags: dict[str, str]) -> dict[str, str]:
    """The whole after a merge: each tag was good by itself, but there may be too many."""
    faults: list[TagFault] = tag_rules.check(tags)
    if faults:
        raise InvalidTags(faults)
    return tags


def _difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str]]:
    """Which keys change. Values name people, and the audit is kept for a year."""
    return {"keys": sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))}
