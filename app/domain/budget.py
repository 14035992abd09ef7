"""Admission of calls to Nango: one bucket per Nango account, whose rate limit the application uses as well.

Nango counts an account's requests in fixed windows of 60 s (Nango contract: Rate limit). `Bucket` mirrors its window:
our own calls, raised to the use in the headers of answers. Times are unix seconds, as in those headers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

WINDOW: Final = 60.0  # seconds
DEFAULT_LIMIT: Final = 200  # requests per minute of an account, until Nango has told its limit
FLOORED: Final = 1.0  # seconds; X-RateLimit-Reset and Retry-After are rounded down


class Priority(StrEnum):
    """Kinds of calls, the most urgent first."""

    PEOPLE = "people"  # a person or an application waits for the answer
    CONFIRM = "confirm"  # an event waits for it
    REFRESH_SOON = "refresh_soon"  # a token expires within five minutes
    RECONCILE = "reconcile"
    REFRESH = "refresh"


SOON: Final = 300.0  # seconds to the expiry, for REFRESH_SOON

# Share of the account's limit, by all callers, above which a call of this kind is held back. The steps between them
# are reserved for the more urgent kinds.
SHARES: Final[Mapping[Priority, float]] = {
    Priority.PEOPLE: 1.0,
    Priority.CONFIRM: 0.95,
    Priority.REFRESH_SOON: 0.85,
    Priority.RECONCILE: 0.75,
    Priority.REFRESH: 0.65,
}
# Share of the account's limit for all background calls together: at most half.
BACKGROUND_SHARES: Final[Mapping[Priority, float]] = {Priority.RECONCILE: 0.5, Priority.REFRESH: 0.4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """`used` counts all known calls of this window, `background` our own background calls.

    ends_at: end of the window. held_until: after a 429, whose Retry-After holds for all callers.
    """

    limit: int
    used: int = 0
    background: int = 0
    ends_at: float = 0.0
    held_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLimit:
    """The rate limit in an answer of Nango; `retry_after` is in seconds, None unless it was a 429."""

    limit: int | None = None
    used: int = 0
    ends_at: float = 0.0
    retry_after: float | None = None


def wait(bucket: Bucket, priority: Priority, *, now: float) -> float | None:
    """Seconds until the call is worth another attempt; None: send it. The bucket has counted the call already.

    Every priority has at least one call of a window, however small the limit is.
    """
    if bucket.held_until > now:
        return bucket.held_until - now
    whole = bucket.used <= max(1, int(bucket.limit * SHARES[priority]))
    share = BACKGROUND_SHARES.get(priority)
    if whole and (share is None or bucket.background <= max(1, int(bucket.limit * share))):
        return None
    return max(bucket.ends_at - now, 0.0)


def is_background(priority: Priority) -> bool:
    return priority in BACKGROUND_SHARES


def count(bucket: Bucket, calls: int, *, background: bool, now: float) -> Bucket:
    """The bucket after `calls`, in a new window where the old one has ended. Negative numbers take them back."""
    current = _current(bucket, now)
    added = calls if background else 0
    return replace(current, used=max(current.used + calls, 0), background=max(current.background + added, 0))


def learn(bucket: Bucket, seen: ReportedLimit, *, now: float) -> Bucket:
    """The bucket after an answer. `used` is only ever raised: an answer that overtook another, or took long, does not
    include later calls.
    """
    current = _current(bucket, now)
    if seen.limit is not None and seen.ends_at + FLOORED > now:
        current = replace(current, limit=seen.limit, used=max(current.used, seen.used), ends_at=seen.ends_at + FLOORED)
    if seen.retry_after is not None:
        current = replace(current, held_until=max(current.held_until, now + max(seen.retry_after, FLOORED)))
    return current


def is_new(bucket: Bucket, seen: ReportedLimit) -> bool:
    """Whether an answer has anything that the bucket, as it was when its call was counted, does not have."""
    return seen.retry_after is not None or (
        seen.limit is not None
        and (seen.limit != bucket.limit or seen.used > bucket.used or abs(seen.ends_at + FLOORED - bucket.ends_at) > 1)
    )


def _current(bucket: Bucket, now: float) -> Bucket:
    """The bucket, or an empty one for a new window, which begins with the first call, as at Nango."""
    if bucket.ends_at > now:
        return bucket
    return replace(bucket, used=0, background=0, ends_at=now + WINDOW)
