"""Nango's rules for tags (Nango contract: Tag rules), checked here so that a refusal has its reason.

Lengths count UTF-16 code units, as Nango runs on JavaScript: an emoji outside the basic plane counts twice.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from app.errors import InvalidTags, TagFault

MAX_TAGS: Final = 10
MAX_KEY: Final = 64
MAX_VALUE: Final = 255
MIN_EMAIL: Final = 5
MAX_FAULTS: Final = 50  # reported at once; an object may have thousands
EMAIL_KEY: Final = "end_user_email"

_KEY: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_\-./]*")
_EMAIL: Final = re.compile(
    r"[a-z0-9_'+-]++(?:\.[a-z0-9_'+-]++)*+(?<!')@(?:[a-z0-9][a-z0-9-]*+\.)++[a-z]{2,}+", re.ASCII | re.IGNORECASE
)


def check(tags: object) -> list[TagFault]:
    """The first broken rule of each wrong tag, in order, MAX_FAULTS at most; empty for tags that Nango accepts
    (Nango contract: Tag rules).

    Rules: `not_object`; per entry `invalid_key`, `key_too_long`, `value_type`, `value_empty`, `value_too_long`,
    `value_unstorable`; then, only when each entry is valid by itself, `too_many`, `duplicate`, `invalid_email`.
    Messages name the key, never the value: tags hold e-mail addresses and end up in logs.
    """
    if not isinstance(tags, Mapping):
        return [TagFault("not_object", "", f"tags must be an object of strings, not {_kind(tags)}")]
    entries = (fault for key, value in tags.items() if (fault := _entry_fault(key, value)))
    return list(islice(entries, MAX_FAULTS)) or list(islice(_object_faults(tags), MAX_FAULTS))


def normalize(tags: object) -> dict[str, str]:
    """The tags as Nango stores them: keys in lower case, values untouched. Raises InvalidTags."""
    faults = check(tags)
    if faults or not isinstance(tags, Mapping):
        raise InvalidTags(faults)
    return {key.lower(): value for key, value in tags.items()}


def in_lower_case(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A hand-written event document, with the names of its tags as in stored documents."""
    tags = document.get("tags")
    if not isinstance(tags, Mapping):
        return document
    return {**document, "tags": {name.lower(): value for name, value in tags.items()}}


def derive(end_user: Mapping[str, object], organization: Mapping[str, object] | None) -> dict[str, str]:
    """The tags Nango makes of the deprecated `end_user` and `organization` (Nango contract: Tags from end users).

    `end_user` is `{id, email?, display_name?, tags?}`, `organization` is `{id, display_name?}`. The end user's own tags
    may override the derived ones; they are cut to length, invalid keys are dropped, and all of them are dropped when
    the sum exceeds ten.
    """
    organization = organization or {}
    facts = {
        "end_user_id": end_user.get("id"),
        EMAIL_KEY: end_user.get("email"),
        "end_user_display_name": end_user.get("display_name"),
        "organization_id": organization.get("id"),
        "organization_display_name": organization.get("display_name"),
    }
    derived = {key: value for key, value in facts.items() if isinstance(value, str) and value}
    own = end_user.get("tags")
    merged = derived | (_trimmed(own) if isinstance(own, Mapping) else {})
    return merged if len(merged) <= MAX_TAGS else derived


def utf16_length(text: str) -> int:
    """Length as JavaScript counts it; a lone surrogate counts one."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def is_email(text: str) -> bool:
    """Whether Nango accepts the address: ASCII only, a dot in the domain, at least five characters."""
    return len(text) >= MIN_EMAIL and _EMAIL.fullmatch(text) is not None


def is_storable(text: str) -> bool:
    """Whether the text has no NUL or lone surrogate: JSON has them, but PostgreSQL refuses them, so Nango
    answers 500.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _entry_fault(key: object, value: object) -> TagFault | None:
    """The first broken rule of one entry. Nango does not check the value of an invalid key."""
    name = key if isinstance(key, str) else ""
    if _KEY.fullmatch(name) is None:
        shape = "must start with an ASCII letter and go on with letters, digits, '_', '-', '.' or '/'"
        return TagFault("invalid_key", name, f"tag key {_shown(name)} {shape}")
    if len(name) > MAX_KEY:
        return TagFault("key_too_long", name, f"tag key {_shown(name)} has {len(name)} characters, at most {MAX_KEY}")
    if not isinstance(value, str):
        return TagFault("value_type", name, f"tag {_shown(name)} must be a string, not {_kind(value)}")
    if not value:
        return TagFault("value_empty", name, f"tag {_shown(name)} is empty: leave it out instead")
    if (length := utf16_length(value)) > MAX_VALUE:
        words = f"has {length} UTF-16 code units, at most {MAX_VALUE}"
        return TagFault("value_too_long", name, f"tag {_shown(name)} {words}")
    if not is_storable(value):
        return TagFault("value_unstorable", name, f"tag {_shown(name)} holds a NUL or a lone surrogate")
    return None


def _object_faults(tags: Mapping[str, str]) -> Iterator[TagFault]:
    if len(tags) > MAX_TAGS:
        yield TagFault("too_many", "", f"there are {len(tags)} tags, at most {MAX_TAGS}")
    seen: set[str] = set()
    for key, value in tags.items():
        lowered = key.lower()
        if lowered in seen:
            yield TagFault("duplicate", lowered, f"tag {_shown(lowered)} is there twice: case does not count")
        seen.add(lowered)
        if lowered == EMAIL_KEY and not is_email(value):
            words = f"is not an e-mail address Nango takes ({len(value)} characters)"
            yield TagFault("invalid_email", lowered, f"tag {_shown(lowered)} {words}")


def _trimmed(tags: Mapping[object, object]) -> dict[str, str]:
    trimmed = {}
    for key, value in tags.items():
        if isinstance(key, str) and isinstance(value, str):
            name, text = _cut(key.lower(), MAX_KEY), _cut(value, MAX_VALUE)
            if text and _KEY.fullmatch(name):
                trimmed[name] = text
    return trimmed


def _cut(text: str, units: int) -> str:
    """The text cut to `units` UTF-16 code units, without half a surrogate pair at the end."""
    return (
        text
        if utf16_length(text) <= units
        else text.encode("utf-16-le", "ignore")[: units * 2].decode("utf-16-le", "ignore")
    )


def _kind(value: object) -> str:
    kinds: dict[type, str] = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return kinds.get(type(value), "object" if isinstance(value, Mapping) else "array")


def _shown(key: str) -> str:
    """A key escaped for a message, and no longer than a key could be."""
    return ascii(key if len(key) <= MAX_KEY else key[:MAX_KEY] + "...")
