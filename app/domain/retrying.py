"""What follows a hand-over: done, tried again and when, or given up and by whose fault (promise 10)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from app.domain.delivery_answer import Answer
from app.domain.states import Fault

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
LONGEST_RETRY_AFTER: Final = timedelta(hours=12)  # whoever asks for more is asked again after it
ASKS_TO_WAIT: Final = frozenset({429, 503})  # the statuses whose Retry-After is heeded
# Answers that tell of the endpoint and not of the job: who calls, where, and how. Other 4xx are about the job.
ABOUT_THE_ENDPOINT: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 408, 415, 421, 425, 426, 429, 431, 451})
_MOST_DIGITS: Final = 9  # of seconds: more are nobody's wish, and int() is slow on long ones


class Verdict(StrEnum):
    """What an answer says."""

    ACCEPTED = "accepted"  # 2xx, or the broker took it
    JOB_REFUSED = "job_refused"  # the endpoint works, and does not want this one
    FAILED = "failed"  # the destination does not work as it is: it counts for its breaker
    GONE = "gone"  # 410: it does not want any job any more


@dataclass(frozen=True, slots=True)
class RetryAt:
    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """All attempts are spent."""

    reason: str


def judge(answer: Answer) -> Verdict:
    """Redirects are never followed, so they are failures: a signed job goes nowhere but to the URL that was set."""
    if answer.error is not None:
        return Verdict.FAILED
    status = answer.status
    if status is None or 200 <= status < 300:
        return Verdict.ACCEPTED
    if status == 410:
        return Verdict.GONE
    if 400 <= status < 500 and status not in ABOUT_THE_ENDPOINT:
        return Verdict.JOB_REFUSED
    return Verdict.FAILED


def problem_of(answer: Answer) -> str | None:
    """An answer in words; None for one that accepts."""
    if answer.error is not None:
        return answer.error
    if answer.status is None or 200 <= answer.status < 300:
        return None
    if 300 <= answer.status < 400:
        return f"answered {answer.status}: redirects are not followed"
    return f"answered {answer.status}"


def fault_of(answer: Answer) -> Fault:
    """Whose it is that a hand-over failed."""
    return Fault.OURS if answer.ours else Fault.TEAM


def wish_of(answer: Answer, *, now: datetime) -> timedelta | None:
    """For how long the endpoint wants to be left alone, within bounds; None where it does not say, or nobody can read
    it. The header has two forms, seconds and a date (RFC 9110, 10.2.3).
    """
    text = (answer.retry_after or "").strip()
    if answer.status not in ASKS_TO_WAIT or not text:
        return None
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= _MOST_DIGITS else None
        return None if seconds is None else min(timedelta(seconds=seconds), LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
        wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)


def after_failure(attempts: int, *, now: datetime, chance: float, wish: timedelta | None = None) -> RetryAt | GiveUp:
    """What follows the failure of attempt number `attempts` (from 1) since the schedule began.

    `chance` is a random number in [0, 1). A wish can make the wait longer, and not shorter: `Retry-After: 0` would use
    up a day's attempts within seconds.
    """
    if attempts > len(SCHEDULE):
        return GiveUp(f"{attempts} attempts failed")
    wait = max(SCHEDULE[max(attempts, 1) - 1], wish or timedelta(0))
    return RetryAt(now + wait * (1 + JITTER * chance))
