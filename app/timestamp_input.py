"""Parsing of times in commands and API calls."""

from datetime import UTC, datetime, timedelta

from app.config.durations import duration
from app.errors import InvalidInput

LONGEST = timedelta(days=3650)


def moment(text: str, *, now: datetime) -> datetime:
    """The time of `2026-11-25T22:00:00Z`, or of an age such as `7d`. Raises InvalidInput."""
    span = _span(text)
    return _time(text, "how long ago") if span is None else now - span


def moment_ahead(text: str, *, now: datetime) -> datetime:
    """The time of `2026-11-25T22:00:00Z`, or of a span from now on such as `7d`. Raises InvalidInput."""
    span = _span(text)
    return _time(text, "in how long") if span is None else now + span


def _span(text: str) -> timedelta | None:
    try:
        return min(duration(text), LONGEST)
    except ValueError:
        return None


def _time(text: str, spans: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    wrong = f"{text[:60]!a}: expected {spans}, such as 7d, or a time with its zone, such as 2026-11-25T22:00:00Z"
    raise InvalidInput(wrong)
