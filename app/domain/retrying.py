"""When a failed hand-over is tried again, and when it is given up (promise 10)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

# The published schedule: the wait after the first, second, … failed attempt.
SCHEDULE: Final = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=8),
    timedelta(hours=12),
)
JITTER: Final = 0.2  # at most this share is added, so that a herd of jobs does not come back as one


@dataclass(frozen=True, slots=True)
class RetryAt:
    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """All attempts are spent."""

    reason: str


def after_failure(attempts: int, *, now: datetime, chance: float) -> RetryAt | GiveUp:
    """What follows the failure of attempt number `attempts` (from 1). `chance` is a random number in [0, 1)."""
    if attempts > len(SCHEDULE):
        return GiveUp(f"{attempts} attempts failed")
    wait = SCHEDULE[attempts - 1]
    return RetryAt(now + wait * (1 + JITTER * chance))
