"""The stored part of a provider's webhook that Nango forwards: all of it, its shape, or nothing (promise 7).

Decided before a body is stored: a database keeps what was once written in its log and in dead rows. Sync and async
action bodies are Nango's own and hold names, counts and times; they are kept, scrubbed (`stored_bodies`).
"""

import json
import re
from enum import StrEnum
from typing import Final

from app.domain.event import EventType, name_in
from app.domain.token_detection import is_name

REDACTED: Final = "[redacted]"
NOTHING: Final = b"{}"  # of a body that is not understood; it is read as one of no known type
_MEMBER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_ENVELOPE: Final = ("from", "type", "providerConfigKey", "connectionId")


class PayloadPolicy(StrEnum):
    FULL = "full"  # as it came
    REDACTED = "redacted"  # its shape: names of members, lengths of lists, and where there is null
    NONE = "none"  # nothing of it


def reduced(came: object, kind: EventType, policy: PayloadPolicy) -> bytes | None:
    """The body as it may be stored with `redacted` or `none`; None for one of Nango's own, which is kept.

    came: the JSON value of the body. kind: what `read` takes it for. A body that is not understood may be a provider's,
    relayed without an envelope (Nango contract: Forwarded webhooks), and is treated as one. The body that is kept is
    understood as the original was.
    """
    if kind not in {EventType.NANGO_FORWARD, EventType.NANGO_UNHANDLED}:
        return None
    if kind is EventType.NANGO_UNHANDLED:
        shape = _redacted(came) if policy is PayloadPolicy.REDACTED else {}
        return _written({**shape, **_own_envelope(came)} if isinstance(shape, dict) else shape)
    assert isinstance(came, dict)  # noqa: S101 - as all that `read` takes for a forwarded one
    envelope = {name: came[name] for name in _ENVELOPE if name_in(came.get(name))}
    if policy is PayloadPolicy.REDACTED:
        envelope["payload"] = _redacted(came.get("payload"))
    return _written(envelope)


def _own_envelope(came: object) -> dict[str, object]:
    """Nango's own members of a webhook of unknown type: that it is of type auth, and the connection's ids."""
    if not isinstance(came, dict):
        return {}
    named = {name: came[name] for name in ("providerConfigKey", "connectionId") if name_in(came.get(name))}
    own = {"from": "nango", **named} if came.get("from") == "nango" else {}
    return own | ({"type": "auth"} if came.get("type") == "auth" else {})


def _redacted(value: object) -> object:
    try:
        return _shape(value)
    except RecursionError:
        return REDACTED


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {name if _is_member(name) else REDACTED: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return None if value is None else REDACTED


def _is_member(name: str) -> bool:
    """Whether it names something. Others may be data, such as addresses and tokens."""
    return _MEMBER.fullmatch(name) is not None and is_name(name)


def _written(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
