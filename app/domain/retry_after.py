"""The header Retry-After, in either form (RFC 9110, 10.2.3)."""

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

MOST_DIGITS: Final = 9  # seconds beyond that are nobody's wish, and int() is slow on long ones


def read_retry_after(value: str, *, now: float) -> float | None:
    """Seconds from `now` (unix), at least 0; None where there is no such header or nobody can read it."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= MOST_DIGITS else None
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    try:
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None
