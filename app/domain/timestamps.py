"""Points in time in other systems' formats: from Nango, a provider, or a database that an older release filled.

Such a value may be anything. Values that are no plausible date, from 1971 to 2999, are read as None. So reading never
fails, and the sum of a date that was read here and any duration of the settings can be represented.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

# Go and .NET write the year 1 for "none", others the beginning of the epoch, and the year 9999 for "never".
EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)  # the first moment that is too late

LONGEST_TEXT: Final = 64
_SECONDS_BELOW: Final = 1e11  # as seconds this is in the year 5138, as milliseconds in 1973
_NUMBER: Final = re.compile(r"[0-9]{9,16}(\.[0-9]{0,9})?")  # eight digits are a date of ISO 8601's basic form
_LEAP_SECOND: Final = re.compile(r"(:[0-9]{2}):60(?![0-9])")


def read_moment(value: object) -> datetime | None:
    """The time of a JSON value or a text, in UTC; None for any other value. Never raises.

    Text: ISO 8601 with `Z`, an offset or no zone, which is UTC, also in PostgreSQL's form with a space and a short
    offset (Nango contract: Timestamps), with any number of digits after the second and with a leap second. Numbers, and
    numeric text: seconds or milliseconds since 1970. None: anything else, and times before 1971 or after 2999.
    """
    try:
        if isinstance(value, str):
            text = value.strip()
            if len(text) > LONGEST_TEXT:
                return None
            return within_range(_of_number(float(text)) if _NUMBER.fullmatch(text) else _of_text(text.upper()))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return within_range(_of_number(value))
    except (ValueError, OverflowError):
        pass  # no such date, or one that its offset moves out of the range of datetime
    return None


def within_range(at: datetime) -> datetime | None:
    """The time in UTC, or None outside of EARLIEST and LATEST. Raises OverflowError where UTC cannot represent it."""
    utc = at.astimezone(UTC)
    return utc if EARLIEST <= utc < LATEST else None


def _of_text(text: str) -> datetime:
    text, leap_seconds = _LEAP_SECOND.subn(r"\1:59", text, count=1)
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) + timedelta(seconds=leap_seconds)


def _of_number(number: float) -> datetime:
    if not 0 < number < 1000 * _SECONDS_BELOW:  # false for NaN, too
        raise ValueError
    return datetime.fromtimestamp(number if number < _SECONDS_BELOW else number / 1000, UTC)
