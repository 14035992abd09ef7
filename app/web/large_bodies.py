"""Large bodies, reduced before they are scrubbed.

Python's JSON reader was measured to take a third of a second for a hostile megabyte, and holds the interpreter's lock
meanwhile: a thread would not spare the event loop. msgspec's takes 6 ms, as it skips members that are not needed.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from app.domain.payload_policy import NOTHING, REDACTED, PayloadPolicy
from app.domain.stored_bodies import KNOWN, is_own, rests_as_it_came, stored, unreadable_at_rest

LARGE: Final = 64 * 1024  # bytes; Nango's own bodies have some hundred, and an error's text may make them long
_REDACTED: Final = f'"{REDACTED}"'.encode()


class _Skimmer:
    """Reads only the members with these names, each as its raw bytes."""

    def __init__(self, names: Iterable[str]) -> None:
        self._fields = {f"member_{number}": name for number, name in enumerate(sorted(names))}
        fields = [(field, Raw, msgspec.field(default=Raw())) for field in self._fields]
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Members", fields, rename=self._fields))

    def read(self, body: bytes) -> dict[str, bytes]:
        """The members found. Raises MsgspecError for bytes that are no JSON object."""
        found = self._decoder.decode(body)
        raw = {name: bytes(getattr(found, field)) for field, name in self._fields.items()}
        return {name: value for name, value in raw.items() if value}


_BODY: Final = _Skimmer({*KNOWN, "payload"})
_ERROR: Final = _Skimmer({"type", "description", "message"})


def stored_large(body: bytes, policy: PayloadPolicy) -> bytes:
    """The stored form of a large body: as `at_rest.stored`, without scrubbing anything large.

    Of Nango's own bodies the known members are kept, unless all of it is plain. With the policy `redacted`, a large
    payload is `"[redacted]"` instead of its shape.
    """
    if policy is PayloadPolicy.FULL and rests_as_it_came(body):
        return body
    try:
        body.decode()
        members = _BODY.read(body)
        sender, kind = (_text(members.get(name, b"")) for name in ("from", "type"))
    except msgspec.ValidationError:  # not an object
        return body if policy is PayloadPolicy.FULL else stored(_REDACTED, policy)
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return unreadable_at_rest(body)[0] if policy is PayloadPolicy.FULL else NOTHING
    if is_own(sender, kind):
        return stored(_joined(_own(members)), policy)
    if policy is PayloadPolicy.FULL:
        return body
    if kind != "forward":
        return stored(_REDACTED, policy)
    payload = members.get("payload", b"null")
    return stored(_joined({**members, "payload": payload if len(payload) <= LARGE else _REDACTED}), policy)


def _own(members: Mapping[str, bytes]) -> dict[str, bytes]:
    small = {name: value for name, value in members.items() if name in KNOWN and len(value) <= LARGE}
    error = members.get("error", b"")
    if error.startswith(b"{"):
        texts = {name: text for name, text in _ERROR.read(error).items() if text.startswith(b'"')}
        return small | {"error": _joined(texts)}
    return small | {"error": error} if error.startswith(b'"') else small


def _text(value: bytes) -> object:
    return msgspec.json.decode(value) if value.startswith(b'"') else None


def _joined(members: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), value) for name, value in sorted(members.items()))
