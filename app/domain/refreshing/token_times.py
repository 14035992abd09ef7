"""The times in a provider's token response, as Nango passes it on (Nango contract: Credential types).

Of a response only these are kept. Its values may be anything: what is no plausible time counts as none, and reading
never fails.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from app.domain.timestamps import LONGEST_TEXT, read_moment

LONGEST_LIFE: Final = timedelta(days=30 * 365)  # of a refresh token; a larger number is in milliseconds, or a time
LATEST_DEADLINE: Final = datetime(2100, 1, 1, tzinfo=UTC)  # a later one stands for "never"

# Names without case and punctuation: `x_refresh_token_expires_in`, `refreshTokenExpiresAt`, `refresh_expires_in`.
_GRANT_NAME: Final = re.compile(
    r"x?refresh(?:token)?(?:hard)?(?:expir(?:es|y|e|ation)?(?:in|at|on|date|time)?|lifetime|ttl)"
)
_ACCESS_LIFE: Final = "expiresin"
_NUMBER: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{0,9})?")
_LONGEST_NAME: Final = 64
_MOST_MEMBERS: Final = 1000  # that are looked at; a token response has ten or so
_NESTED: Final = "data"  # providers that wrap every answer wrap this one, too


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """The times of one answer about a token.

    expires_at: of the access token, as Nango knows it. issued_at: of the access token, from its expiry and its life in
    the same answer. grant_at: when the refresh token lapses. grant_life: how long it lives, from its issue on. Each is
    None where the answer does not say it.
    """

    expires_at: datetime | None = None
    issued_at: datetime | None = None
    grant_at: datetime | None = None
    grant_life: timedelta | None = None


NO_TIMES: Final = TokenTimes()


def read_token_times(credentials: Mapping[str, object]) -> TokenTimes:
    """The times in the `credentials` of a connection, whatever their type. Never raises."""
    expires_at = read_moment(credentials.get("expires_at"))
    raw = credentials.get("raw")
    if not isinstance(raw, dict):
        return TokenTimes(expires_at)
    lives = [_term(value) for name, value in _members(raw) if name == _ACCESS_LIFE]
    life = next((life for life in lives if isinstance(life, timedelta)), None)
    terms = [_term(value) for name, value in _members(raw) if _GRANT_NAME.fullmatch(name)]
    return TokenTimes(
        expires_at,
        issued_at=expires_at - life if expires_at is not None and life is not None else None,
        grant_at=min((term for term in terms if isinstance(term, datetime)), default=None),
        grant_life=min((term for term in terms if isinstance(term, timedelta)), default=None),
    )


def _members(raw: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The members of a response, and of the object that wraps it, with plain names."""
    nested = raw.get(_NESTED)
    for level in (raw, nested if isinstance(nested, dict) else {}):
        for name, value in list(level.items())[:_MOST_MEMBERS]:
            if isinstance(name, str) and len(name) <= _LONGEST_NAME:
                yield "".join(filter(str.isalnum, name)).lower(), value


def _term(value: object) -> datetime | timedelta | None:
    """A life or a time, by its form and size: providers put either under names of both.

    Numbers below a thousand million are seconds of life, as 31 years are longer than any token's. Above, they are the
    seconds or milliseconds of a time in this century, else milliseconds of life. 0 says that there is no limit.
    """
    number = _number(value)
    if number is None:
        return _deadline(read_moment(value)) if isinstance(value, str) else None
    if 0 < number < LONGEST_LIFE.total_seconds():
        return timedelta(seconds=number)
    moment = read_moment(number)
    if moment is not None and 2000 <= moment.year < LATEST_DEADLINE.year:
        return moment
    if LONGEST_LIFE.total_seconds() <= number < LONGEST_LIFE.total_seconds() * 1000:
        return timedelta(milliseconds=number)
    return None


def _deadline(at: datetime | None) -> datetime | None:
    return at if at is not None and at < LATEST_DEADLINE else None


def _number(value: object) -> float | None:
    """A finite number, also from text; None for anything else, such as true."""
    if isinstance(value, str) and len(value) <= LONGEST_TEXT and _NUMBER.fullmatch(value.strip()):
        value = float(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) > 10**16:  # math.isfinite cannot take any integer
        return None
    return float(value) if math.isfinite(value) else None
