"""Values as the checks write them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from app.db.read.figures import AT_MOST

SHOWN: Final = 3  # names in a sentence
LONGEST: Final = 200  # characters of a problem in a sentence


def bounded(count: int, at_most: int = AT_MOST) -> str | int:
    """A count, or `10000+` for one that ended at its bound."""
    return count if count <= at_most else f"{at_most}+"


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def moment(at: datetime) -> str:
    """A time to the second."""
    return at.isoformat(timespec="seconds")


def span(length: timedelta) -> str:
    """A length of time in its largest unit, such as `90 s`, `12 min`, `3 h` or `4 d`."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def first_line(problem: str | None) -> str:
    """The first line of a stored problem, shortened; empty for none."""
    line = (problem or "").strip().partition("\n")[0].strip()
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
