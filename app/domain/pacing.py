"""Rate limits by GCRA: one moment per destination, up to which the jobs let through so far use the rate up.

The moment is kept in the database, so the limit holds for all processes together.
"""

import math
from datetime import datetime, timedelta
from typing import Final

AHEAD: Final = timedelta(
    seconds=1
)  # the burst: jobs of that long and one more, as destinations are polled only once a second


def allowed(paced_to: datetime | None, rate: float, *, now: datetime) -> int:
    """Number of jobs allowed now, at `rate` jobs per second."""
    ahead = now + AHEAD + timedelta(seconds=1 / rate) - _begin(paced_to, now)
    return max(0, math.floor(ahead.total_seconds() * rate + 1e-6))


def advanced(paced_to: datetime | None, rate: float, taken: int, *, now: datetime) -> datetime:
    """The new moment after `taken` more jobs."""
    return _begin(paced_to, now) + timedelta(seconds=taken / rate)


def _begin(paced_to: datetime | None, now: datetime) -> datetime:
    return max(paced_to, now) if paced_to else now
