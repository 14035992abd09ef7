"""Fields of users and organizations: their rules, and the changes of a write.

Fields are a mapping: an absent field stays as it is, and None clears it, so nothing is overwritten silently.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final

from app.domain.tags import is_email, is_storable, utf16_length
from app.errors import FieldFault

Fields = Mapping[str, str | None]

MAX_ID: Final = 255  # the limit of a tag (Nango contract: Tag rules): no tag could match a longer id
MAX_NAME: Final = 255
MAX_EMAIL: Final = 254  # RFC 5321
MAX_FAULTS: Final = 20  # reported of one; a line of a file may have thousands of unknown fields


class OwnerKind(StrEnum):
    USER = "user"
    ORGANIZATION = "organization"


FIELDS: Final[Mapping[OwnerKind, Sequence[str]]] = {
    OwnerKind.USER: ("external_id", "email", "display_name", "organization"),
    OwnerKind.ORGANIZATION: ("external_id", "name"),
}


def check(kind: OwnerKind, fields: Mapping[str, object]) -> list[FieldFault]:
    """Every broken rule, in the order of the fields, MAX_FAULTS at most; empty for valid fields.

    Rules: `unknown_field`, `type`, `required`, `empty`, `too_long`, `unstorable`, `blanks`, `email`. Messages have the
    length, never the value: it may be a person's address.
    """
    faults = (fault for field, value in fields.items() if (fault := _fault(kind, field, value)))
    return list(islice(faults, MAX_FAULTS))


def required(fields: Mapping[str, object]) -> list[FieldFault]:
    """The fault of fields without an external id."""
    if fields.get("external_id"):
        return []
    return [FieldFault("external_id", "required", "is missing")]


def changed(current: Fields, wanted: Fields) -> dict[str, str | None]:
    """The fields whose value differs."""
    return {field: value for field, value in wanted.items() if current.get(field) != value}


def _fault(kind: OwnerKind, field: str, value: object) -> FieldFault | None:
    if field not in FIELDS[kind]:
        return FieldFault(_shown(field), "unknown_field", f"is not a field; fields are {', '.join(FIELDS[kind])}")
    if value is None:
        if field == "external_id":
            return FieldFault(field, "required", "cannot be cleared")
        return None
    if not isinstance(value, str):
        return FieldFault(field, "type", "must be a string or null")
    return _text_fault(field, value)


def _text_fault(field: str, value: str) -> FieldFault | None:
    most = MAX_EMAIL if field == "email" else MAX_NAME if field in {"name", "display_name"} else MAX_ID
    length = utf16_length(value)
    if not value:
        return FieldFault(field, "empty", "is empty: leave it out to keep it, or give null to clear it")
    if length > most:
        return FieldFault(field, "too_long", f"has {length} UTF-16 code units, at most {most}")
    if not is_storable(value):
        return FieldFault(field, "unstorable", "holds a NUL, or bytes that are not UTF-8")
    if value != value.strip():
        return FieldFault(field, "blanks", "begins or ends with blanks")
    if field == "email" and not is_email(value):
        return FieldFault(field, "email", f"is not an address that Nango takes ({length} characters)")
    return None


def _shown(field: str) -> str:
    """A name from outside, cut and escaped for a message."""
    return ascii(field if len(field) <= 64 else f"{field[:64]}...")[1:-1]
