"""Notices of pages after an act. A form's answer leads to a page by a code in its query, never by a text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.wording import counted

PARAMETER: Final = "done"
_CODE: Final = re.compile(r"([a-z_]{1,60})(?:\.(\d{1,7}))?")


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence. With a noun, `{}` in it becomes the count with the noun."""

    text: str
    noun: str | None = None


NOTICES: Final[Mapping[str, Notice]] = {}


def code(name: str, count: int | None = None) -> str:
    """The value of the parameter. Raises KeyError for a notice that there is not."""
    notice = NOTICES[name]
    return name if notice.noun is None or count is None else f"{name}.{count}"


def text_of(value: str | None) -> str | None:
    """The sentence for a value of the parameter; None for one that is no code."""
    found = _CODE.fullmatch(value or "")
    notice = NOTICES.get(found[1]) if found else None
    if found is None or notice is None or (notice.noun is None) is not (found[2] is None):
        return None
    return notice.text if notice.noun is None else notice.text.format(counted(int(found[2]), notice.noun))
