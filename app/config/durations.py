"""Durations in waylink.toml and in variables, such as `12h`."""

import re
from datetime import timedelta
from typing import Final

LONGEST_DURATION: Final = timedelta(days=365_000)  # Python can represent today plus or minus this
_DURATION: Final = re.compile(r"(\d+)\s*([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """A number and its unit, such as `12h`. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a duration such as 12h or 7d")
    try:
        span = timedelta(**{_UNITS[match[2]]: int(match[1])})
    except (OverflowError, ValueError):  # more digits than Python converts to a number
        raise ValueError("too long") from None
    if span > LONGEST_DURATION:
        raise ValueError(f"too long: at most {LONGEST_DURATION.days}d")
    return span


def shown_duration(span: timedelta) -> str:
    """A whole number of the largest unit that fits, such as `12h`."""
    seconds = int(span.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
