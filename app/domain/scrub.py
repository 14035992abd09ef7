"""Text from outside made safe to keep: nothing that looks like a credential, bounded in length.

Descriptions in Nango's error events may embed a serialised exception of the provider (CONTRACT 1.3), so anything can
stand in them. Better to hide a harmless word than to store a token.
"""

import re
from typing import Final

MAX_LENGTH: Final = 500
HIDDEN: Final = "[hidden]"

_SCHEME: Final = re.compile(r"\b(bearer|basic|token)\s+[^\s\"',;]{6,}", re.IGNORECASE)
_NAMED: Final = re.compile(
    r"((?:[\w-]*(?:token|secret|password|passwd|api[_-]?key|authorization|assertion|signature|credential)[\w-]*|\bcode)"
    r"\\?[\"']?\s*[=:]\s*\\?[\"']?)(?![\[{\s])([^\s\"'\\,;&}]+)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[A-Za-z0-9_\-.~+/=]{20,}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def scrub(text: str, *, limit: int = MAX_LENGTH) -> str:
    """`text` without token-like parts and without NUL or lone surrogates, cut to `limit` characters."""
    text = replace_unstorable(text[: limit * 4])
    text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    text = _WORD.sub(lambda match: _hide_random(match.group()), text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def replace_unstorable(text: str) -> str:
    """NUL and lone surrogates become U+FFFD: PostgreSQL's text and jsonb refuse them."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _hide_random(word: str) -> str:
    """Hide long words that mix letters and digits, as tokens do and prose does not; UUIDs are ids and stay."""
    if _UUID.fullmatch(word):
        return word
    mixed = any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
    return HIDDEN if mixed else word
