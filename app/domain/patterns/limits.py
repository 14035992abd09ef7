"""Limits of a pattern's size. Compilation counts while it reads, and refuses at the first place beyond a limit."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from app.errors import InvalidPattern

# EventBridge's limit: a `$or` multiplies with the others beside, above and below it.
MAX_COMBINATIONS: Final = 1000
MAX_DEPTH: Final = 32
MAX_CHARACTERS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Limits:
    """fields: lists of entries. values: entries of all these lists, those of operators included. operators: entries
    that are objects, each string in an operator's list counted separately. wildcards: strings with `*`. string:
    characters of one string or name.
    """

    fields: float
    values: float
    operators: float
    wildcards: float
    string: float


ASKED: Final = Limits(fields=1_000, values=10_000, operators=1_000, wildcards=100, string=4_096)
# For patterns that an earlier release accepted: they stay in force, since matching bounds its work in any case.
KEPT: Final = Limits(fields=math.inf, values=math.inf, operators=math.inf, wildcards=math.inf, string=math.inf)


@dataclass(slots=True)
class Counted:
    """Counts of the pattern read so far."""

    limits: Limits
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, path: str, count: int = 1) -> None:
        """Add to a count. what: a field of `Limits`. Raises InvalidPattern at the path where there are too many."""
        self._counts[what] += count
        most = getattr(self.limits, what)
        if self._counts[what] > most:
            raise InvalidPattern(path=path, reason=f"more than {most:,} {what} in one pattern")

    def check_string(self, text: str, path: tuple[str, ...] | str) -> None:
        if len(text) > self.limits.string:
            reason = f"a string of {len(text):,} characters; the longest may have {self.limits.string:,}"
            raise InvalidPattern(path=path if isinstance(path, str) else dotted(path), reason=reason)


def dotted(path: tuple[str, ...]) -> str:
    """Text such as `tags.plan`; a name that itself contains a dot is shown as `tags["a.b"]`."""
    shown = ""
    for name in path:
        if "." in name or not name:
            shown += f"[{json.dumps(name, ensure_ascii=False)}]"
        else:
            shown += f".{name}" if shown else name
    return shown
