"""Failures of renewals that recur: identical ones of a connection are one occurrence, of which teams are told once.

Nango posts a webhook for every failed try, of each caller (Nango contract: When auth webhooks are sent).
"""

import hashlib
import re
from datetime import datetime, timedelta
from typing import Final

from app.domain.event import EventError

RECURS_WITHIN: Final = timedelta(days=1)  # of the former one
_LONGEST: Final = 500  # characters of a description that are compared
_WORD: Final = re.compile(r"[\w-]++")


def shape(error: EventError | None) -> str:
    """A hash of the failure's type and of its description without ids, times and counters."""
    kind, description = (error.type, error.description) if error is not None else ("", "")
    plain = " ".join(_WORD.sub(_plain, (description or "")[:_LONGEST]).lower().split())
    return hashlib.blake2b(f"{kind}\0{plain}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def recurs(failure: str, *, former: str | None, former_at: datetime | None, now: datetime) -> bool:
    """Whether a failure of this shape is the former one again, of a connection that has not recovered since."""
    return former == failure and former_at is not None and now - former_at <= RECURS_WITHIN


def _plain(word: re.Match[str]) -> str:
    """A word without its value where it holds a digit, as ids, times and counters do."""
    return "#" if any(character.isdigit() for character in word.group()) else word.group()
