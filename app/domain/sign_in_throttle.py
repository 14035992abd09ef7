"""Delays between attempts to sign in, by name, by address, and by both.

An attempt counts as failed before its password is checked, so that attempts side by side wait like those in a row. The
delays have a limit, and failures are forgotten. At an address from which the operator signed in before, the failures of
the two together count, and neither those of the name elsewhere nor those of other names there: strangers cannot keep an
operator out.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final


@dataclass(frozen=True, slots=True)
class Delays:
    """Failures without a delay, and the longest delay of those that follow; each is twice the one before."""

    free: int
    longest: timedelta


NAME: Final = Delays(free=5, longest=timedelta(seconds=30))
ADDRESS: Final = Delays(free=20, longest=timedelta(minutes=5))  # several operators may share one
FORGOTTEN_AFTER: Final = timedelta(hours=1)  # since the last failure
KNOWN_FOR: Final = timedelta(days=90)  # an address from which an operator has signed in


@dataclass(frozen=True, slots=True)
class Failures:
    """Attempts that failed, with the moment of the last one and that from which the next one may be made."""

    count: int
    last_at: datetime
    next_at: datetime


def wait(failures: Failures | None, now: datetime) -> timedelta:
    """The time until an attempt may be made; zero where it may be made now."""
    if failures is None or is_forgotten(failures, now):
        return timedelta(0)
    return max(failures.next_at - now, timedelta(0))


def after_attempt(failures: Failures | None, delays: Delays, now: datetime) -> Failures:
    """The failures with one more attempt that is made now."""
    before = 0 if failures is None or is_forgotten(failures, now) else failures.count
    count = before + 1
    return Failures(count, now, now + delay(count, delays))


def delay(count: int, delays: Delays) -> timedelta:
    """The delay after so many failures: none, then 1, 2, 4 … seconds up to the longest."""
    over = count - delays.free
    if over < 0:
        return timedelta(0)
    return min(timedelta(seconds=2 ** min(over, 30)), delays.longest)


def is_forgotten(failures: Failures, now: datetime) -> bool:
    return now - failures.last_at >= FORGOTTEN_AFTER
