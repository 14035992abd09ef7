"""The header `traceparent` (W3C Trace Context): the trace that a message belongs to, and the span that it came from.

It stands in front of a webhook or is made here, is kept with the event, and goes on with its jobs. Only the form of
version 00 is kept, 55 characters: `00-<trace id>-<span id>-<flags>`. The header `tracestate`, free text of other
systems, is not taken.
"""

import re
from typing import Final

HEADER: Final = "traceparent"
LONGEST: Final = 512  # characters; a later version may have more than 55
_LENGTH: Final = 55
_FORM: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_KNOWN_FLAGS: Final = 0x03  # sampled, random trace id


def read(header: bytes) -> str | None:
    """The header's value in the form of version 00; None where it is malformed.

    Of a later version, what follows the flags is left out, and so are flags that version 00 does not have.
    """
    return in_form(header.decode("latin-1").strip(" \t")) if len(header) <= LONGEST else None


def in_form(text: str) -> str | None:
    """The same for text, such as a stored value."""
    found = _FORM.fullmatch(text[:_LENGTH])
    if found is None:
        return None
    version, trace, span, flags = found.groups()
    # Version ff is forbidden, 00 has nothing after its flags, and later ones a dash before what they add.
    if version == "ff" or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    if len(text) > _LENGTH and (version == "00" or text[_LENGTH] != "-"):
        return None
    return f"00-{trace}-{span}-{int(flags, 16) & _KNOWN_FLAGS:02x}"


def is_sampled(traceparent: str) -> bool:
    """Whether spans of the trace are to be made: the last bit of a value in the form of version 00."""
    return traceparent.endswith(("1", "3"))


def trace_id(traceparent: str) -> str:
    """The trace's id, 32 hex digits."""
    return traceparent[3:35]
