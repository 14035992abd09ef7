"""A rate limit as one moment: that up to which the jobs let through so far would take, one after the other (GCRA).

It is kept in the database, so it holds for all processes together.
"""

import math
from datetime import datetime, timedelta
from typing import Final

AHEAD: Final = timedelta(seconds=1)  # jobs of that time may go at once, and one more: nobody looks all the time


def allowed(paced_to: datetime | None, rate: float, *, now: datetime) -> int:
    """How many jobs may go now, at `rate` per second."""
    ahead = now + AHEAD + timedelta(seconds=1 / rate) - _begin(paced_to, now)
    return max(0, math.floor(ahead.total_seconds() * rate + 1e-6))


def advanced(paced_to: datetime | None, rate: float, taken: int, *, now: datetime) -> datetime:
    """The moment after so many more."""
    return _begin(paced_to, now) + timedelta(seconds=taken / rate)


def _begin(paced_to: datetime | None, now: datetime) -> datetime:
    return max(paced_to, now) if paced_to else now
