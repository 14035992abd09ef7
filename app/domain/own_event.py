"""The stored form of Waylink's own events, which it found itself or an operator caused.

A webhook's body is never read in this form, whatever it looks like: Nango signs any body that it forwards
(Nango contract: Forwarded webhooks), and an own event is trusted. The event's origin, a column that only Waylink
writes, decides the form.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from app.domain.confirming import Absent, Snapshot
from app.domain.event import OPERATIONS, EventError, EventType, Notice
from app.domain.linking import EndUser


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnEvent:
    """One of Waylink's own events: about a connection, or with a payload.

    lookup: the API's result when the event was found, used as its first lookup. None: a lookup is made, as for a
    webhook. error: of failures; from Nango's log, never from a provider's answer.
    """

    type: EventType
    integration: str | None = None
    connection_id: str | None = None
    error: EventError | None = None
    lookup: Snapshot | Absent | None = None
    payload: Mapping[str, object] | None = None

    @property
    def notice(self) -> Notice:
        """The event as a notice, with the operation and success of the corresponding webhook, so that routes match."""
        operation, success = OPERATIONS.get(self.type, (None, None))
        snapshot = self.lookup if isinstance(self.lookup, Snapshot) else None
        return Notice(
            type=self.type,
            integration=self.integration,
            connection_id=self.connection_id,
            provider=snapshot.provider if snapshot else None,
            operation=operation,
            success=success,
            tags=snapshot.tags if snapshot else None,
            end_user=snapshot.end_user if snapshot else None,
            error=self.error,
            payload=self.payload,
        )


def write_own(event: OwnEvent) -> bytes:
    """The body to store: JSON in UTF-8."""
    body: dict[str, Any] = {
        "type": str(event.type),
        "integration": event.integration,
        "connection_id": event.connection_id,
    }
    if event.payload is not None:
        body["payload"] = event.payload
    if event.error is not None:
        body["error"] = {"type": event.error.type, "description": event.error.description}
    if isinstance(event.lookup, Snapshot):
        body["view"] = _write_snapshot(event.lookup)
    elif isinstance(event.lookup, Absent):
        body["absent"] = {"observed_at": event.lookup.observed_at.isoformat(), "again": event.lookup.again}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def read_own(body: bytes) -> OwnEvent:
    """Read a body written by `write_own`. Raises ValueError for another one, which is a fault of Waylink."""
    try:
        read: dict[str, Any] = json.loads(body)
        error, snapshot, absent = read.get("error"), read.get("view"), read.get("absent")
        lookup = (
            _read_snapshot(snapshot) if snapshot is not None else _read_absent(absent) if absent is not None else None
        )
        return OwnEvent(
            type=EventType(read["type"]),
            integration=read["integration"],
            connection_id=read["connection_id"],
            error=EventError(error["type"], error["description"]) if error is not None else None,
            lookup=lookup,
            payload=read.get("payload"),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"not an event of our own: {type(problem).__name__}") from None


def readable(bodies: Iterable[bytes]) -> list[OwnEvent]:
    """The events of the bodies, without unreadable ones, which processing reports."""
    events = []
    for body in bodies:
        with suppress(ValueError):
            events.append(read_own(body))
    return events


_END_USER: Final = ("id", "email", "display_name", "organization_id", "organization_name")


def _write_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    owner = snapshot.end_user
    return {
        "nango_id": snapshot.nango_id,
        "tags": dict(snapshot.tags),
        "end_user": {name: getattr(owner, name) for name in _END_USER} if owner else None,
        "provider": snapshot.provider,
        "auth_failing": snapshot.auth_failing,
        "observed_at": snapshot.observed_at.isoformat(),
    }


def _read_snapshot(snapshot: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        nango_id=snapshot["nango_id"],
        tags=snapshot["tags"],
        end_user=EndUser(**snapshot["end_user"]) if snapshot["end_user"] else None,
        provider=snapshot["provider"],
        auth_failing=snapshot["auth_failing"],
        observed_at=datetime.fromisoformat(snapshot["observed_at"]),
    )


def _read_absent(absent: Mapping[str, Any]) -> Absent:
    return Absent(datetime.fromisoformat(absent["observed_at"]), again=absent["again"])
