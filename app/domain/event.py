"""Parsing of webhook bodies, and the document that patterns are matched against.

Parsing is lenient: an unknown body is a `nango.unhandled` event, never an error, because Nango does not retry a refused
webhook (Nango contract: Delivery and retries) and adds types without notice (Nango contract: Webhook types).
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from app.domain.json_values import MAX_DEPTH, STRICT, nested_deeper, storable
from app.domain.linking import EndUser
from app.domain.scrub import scrub
from app.domain.tags import utf16_length
from app.domain.values import value

MAX_NAME: Final = 255  # UTF-16 code units, of both ids (Nango contract: Connection identity)


class EventType(StrEnum):
    CONNECTION_CREATED = "connection.created"
    CONNECTION_REAUTHORIZED = "connection.reauthorized"
    CONNECTION_CREATION_FAILED = "connection.creation_failed"
    CONNECTION_REAUTHORIZATION_FAILED = "connection.reauthorization_failed"
    CONNECTION_REFRESH_FAILED = "connection.refresh_failed"
    CONNECTION_RECOVERED = "connection.recovered"
    CONNECTION_DELETED = "connection.deleted"
    CONNECTION_LINKED = "connection.linked"
    CONNECTION_TAGS_CHANGED = "connection.tags_changed"
    CONNECTION_NEEDS_RECONNECT = "connection.needs_reconnect"
    TOKEN_EXPIRING = "token.expiring"  # noqa: S105 - an event type
    NANGO_SYNC = "nango.sync"
    NANGO_FORWARD = "nango.forward"
    NANGO_ASYNC_ACTION = "nango.async_action"
    NANGO_UNHANDLED = "nango.unhandled"
    DESTINATION_FAILING = "waylink.destination.failing"
    DESTINATION_DISABLED = "waylink.destination.disabled"
    DESTINATION_RECOVERED = "waylink.destination.recovered"
    JOB_DISCARDED = "waylink.job.discarded"


_AUTH_TYPES: Final = {
    ("creation", True): EventType.CONNECTION_CREATED,
    ("override", True): EventType.CONNECTION_REAUTHORIZED,
    ("creation", False): EventType.CONNECTION_CREATION_FAILED,
    ("override", False): EventType.CONNECTION_REAUTHORIZATION_FAILED,
    ("refresh", False): EventType.CONNECTION_REFRESH_FAILED,
    ("refresh", True): EventType.CONNECTION_RECOVERED,
    ("deletion", True): EventType.CONNECTION_DELETED,
}
OPERATIONS: Final = {kind: members for members, kind in _AUTH_TYPES.items()}  # (operation, success) of Nango's webhook
_OTHER_TYPES: Final = {
    "sync": EventType.NANGO_SYNC,
    "forward": EventType.NANGO_FORWARD,
    "async_action": EventType.NANGO_ASYNC_ACTION,
}
_ENVELOPE: Final = frozenset({"from", "type", "connectionId", "providerConfigKey", "success", "error"})


@value
class EventError:
    """An error at Nango. `description` is scrubbed, and still untrusted text."""

    type: str
    description: str


@value
class Notice:
    """A parsed webhook body. Members that Nango left out are None (Nango contract: Auth webhook).

    problem: why a body is `nango.unhandled`. is_auth: its type is `auth`, whether understood or not.
    """

    type: EventType
    connection_id: str | None = None
    integration: str | None = None
    provider: str | None = None
    auth_mode: str | None = None
    environment: str | None = None
    operation: str | None = None
    success: bool | None = None
    tags: Mapping[str, str] | None = None
    end_user: EndUser | None = None
    error: EventError | None = None
    payload: object = None
    problem: str | None = None
    is_auth: bool = False

    @property
    def key(self) -> tuple[str, str] | None:
        """(integration, connection id), or None where the body names no connection."""
        if self.integration is None or self.connection_id is None:
            return None
        return self.integration, self.connection_id


def read(body: bytes) -> Notice:
    """Parse raw webhook bytes (Nango contract: Webhook types). Never raises."""
    try:
        parsed = STRICT.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        return unreadable(problem)
    return read_parsed(body, parsed)


def unreadable(problem: Exception) -> Notice:
    """The result of `read` for bytes whose parsing raised this."""
    return unhandled(f"not readable as JSON: {type(problem).__name__}")


def read_parsed(body: bytes, parsed: object) -> Notice:
    """The result of `read` for bytes that are parsed already."""
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and nested_deeper(parsed, MAX_DEPTH):
        return unhandled(
            f"nested deeper than {MAX_DEPTH} levels"
        )  # a reader of the stored event may have a lower limit
    if b"\\u" in body:
        parsed = storable(parsed)
    if not isinstance(parsed, dict):
        return unhandled("not a JSON object")
    kind = parsed.get("type")
    if kind == "auth":
        return _read_auth(parsed)
    if isinstance(kind, str) and kind in _OTHER_TYPES:
        return _read_other(_OTHER_TYPES[kind], parsed)
    return unhandled("a body of no known type", parsed)


def failure_type(notice: Notice, *, known: bool) -> EventType:
    """The type of a failure. Nango reports a failed re-authorization as a failed `creation` too.

    known: a connection of this key is stored. (Nango contract: When auth webhooks are sent)
    """
    if notice.type is EventType.CONNECTION_CREATION_FAILED and known:
        return EventType.CONNECTION_REAUTHORIZATION_FAILED
    return notice.type


def _read_auth(body: Mapping[str, object]) -> Notice:
    operation, success = body.get("operation"), body.get("success")
    integration, connection_id = name_in(body.get("providerConfigKey")), name_in(body.get("connectionId"))
    if body.get("from") != "nango" or integration is None or connection_id is None:
        return unhandled("shaped like an auth event, but its envelope is not Nango's", is_auth=True)
    if not isinstance(operation, str) or not isinstance(success, bool) or (operation, success) not in _AUTH_TYPES:
        return unhandled("an auth event of no known operation", body, is_auth=True)
    return Notice(
        type=_AUTH_TYPES[operation, success],
        connection_id=connection_id,
        integration=integration,
        provider=_provider(body.get("provider")),
        auth_mode=name_in(body.get("authMode")),
        environment=name_in(body.get("environment")),
        operation=operation,
        success=success,
        tags=_tags(body.get("tags")),
        end_user=_end_user(body.get("endUser")),
        error=None if success else _error(body.get("error")),
        is_auth=True,
    )


def _read_other(kind: EventType, body: Mapping[str, object]) -> Notice:
    integration, connection_id = name_in(body.get("providerConfigKey")), name_in(body.get("connectionId"))
    wrapped = kind is EventType.NANGO_FORWARD
    # A forward names its provider in `from` and may come without a connection (Nango contract: Forwarded webhooks).
    if integration is None or (connection_id is None and not wrapped) or (body.get("from") != "nango" and not wrapped):
        return unhandled(f"shaped like a {body['type']} event, but its envelope is not Nango's")
    success = body.get("success")
    rest = {name: value for name, value in body.items() if name not in _ENVELOPE}
    return Notice(
        type=kind,
        connection_id=connection_id,
        integration=integration,
        provider=_provider(body.get("from")) if wrapped else None,
        success=success if isinstance(success, bool) else None,
        error=_error(body.get("error")) if success is False else None,
        payload=rest if kind is EventType.NANGO_SYNC else body.get("payload"),
    )


def unhandled(problem: str, body: Mapping[str, object] | None = None, *, is_auth: bool = False) -> Notice:
    """The notice of an unknown body, which is stored and shown. It names a connection if it is in Nango's envelope."""
    names = body if body is not None and body.get("from") == "nango" else {}
    return Notice(
        type=EventType.NANGO_UNHANDLED,
        integration=name_in(names.get("providerConfigKey")),
        connection_id=name_in(names.get("connectionId")),
        problem=problem,
        is_auth=is_auth,
    )


def name_in(value: object) -> str | None:
    """The value, where it can be a name of Nango: a text of up to MAX_NAME, counted as Nango does; else None."""
    return value if isinstance(value, str) and value and utf16_length(value) <= MAX_NAME else None


def _provider(value: object) -> str | None:
    # Nango writes the literal "unknown" when it had no integration at hand (Nango contract: Auth webhook).
    return None if value == "unknown" else name_in(value)


def _tags(value: object) -> dict[str, str] | None:
    """The body's tags with lower-case names. Values that are no text, which Nango never sends, are left out."""
    if not isinstance(value, dict):
        return None
    return {key.lower(): text for key, text in value.items() if isinstance(text, str)}


def _end_user(value: object) -> EndUser | None:
    if not isinstance(value, dict):
        return None
    end_user = EndUser(
        id=name_in(value.get("endUserId")),
        email=name_in(value.get("endUserEmail")),
        organization_id=name_in(value.get("organizationId")),
    )
    return end_user if end_user.id or end_user.email or end_user.organization_id else None


def _error(value: object) -> EventError | None:
    if isinstance(value, str) and value:
        return EventError("unknown", scrub(value))  # the form of earlier releases of Nango
    if not isinstance(value, dict):
        return None
    texts = [text for text in (value.get("description"), value.get("message")) if isinstance(text, str)]
    kind = value.get("type")
    return EventError(
        type=scrub(kind, limit=100) if isinstance(kind, str) else "unknown",
        description=scrub(texts[0]) if texts else "",
    )


def linked_document(
    cause: Mapping[str, object], *, event_id: str, origin: str, occurred_at: datetime, confirmed: bool
) -> dict[str, object]:
    """The document of the `connection.linked` that followed from an event with document `cause`.

    It shows the same connection and owner; there was none before.
    """
    own = {"id": event_id, "type": str(EventType.CONNECTION_LINKED), "origin": str(origin)}
    own |= {"occurred_at": occurred_at.isoformat()}
    empty = dict.fromkeys(("operation", "success", "previous_owner", "error", "payload"))
    return {**cause, **own, **empty, "confirmed": confirmed}


def document(
    *,
    event_id: str,
    type: str,  # noqa: A002 - the member's name in the public contract
    origin: str,
    occurred_at: datetime,
    environment: str | None,
    confirmed: bool,
    notice: Notice | None = None,
    integration: str | None = None,
    connection_id: str | None = None,
    provider: str | None = None,
    auth_mode: str | None = None,
    tags: Mapping[str, str] | None = None,
    user: Mapping[str, object] | None = None,
    organization: Mapping[str, object] | None = None,
    previous_owner: Mapping[str, object] | None = None,
    error: EventError | None = None,
    payload: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The event's document as a JSON object: routes are matched against it, and teams receive it."""
    problem = error or (notice.error if notice else None)
    return {
        "id": event_id,
        "type": str(type),
        "origin": str(origin),
        "occurred_at": occurred_at.isoformat(),
        "environment": environment,
        "integration": integration,
        "provider": provider,
        "auth_mode": auth_mode,
        "operation": notice.operation if notice else None,
        "success": notice.success if notice else None,
        "confirmed": confirmed,
        "connection_id": connection_id,
        "tags": dict(tags or {}),
        "user": dict(user) if user else None,
        "organization": dict(organization) if organization else None,
        "previous_owner": dict(previous_owner) if previous_owner else None,
        "error": {"type": problem.type, "description": problem.description} if problem else None,
        "payload": payload or (notice.payload if notice else None),
    }
