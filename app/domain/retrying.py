"""Classes of delivery answers, and the schedule of retries (promise 10)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from app.domain.delivery_answer import DeliveryAnswer
from app.domain.states import Fault

# The published schedule: waits after the first, second, … failed attempt.
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
JITTER: Final = 0.2  # at most this share is added to a wait, so that jobs that failed together do not return together
LONGEST_RETRY_AFTER: Final = timedelta(hours=12)  # a longer Retry-After counts as this
ASKS_TO_WAIT: Final = frozenset({429, 503})  # the statuses whose Retry-After is respected
# 4xx statuses about the endpoint, not the job: caller, address, form of the request. Other 4xx are about the job.
ABOUT_THE_ENDPOINT: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 408, 415, 421, 425, 426, 429, 431, 451})
_MOST_DIGITS: Final = 9  # of seconds; longer numbers are ignored, as int() is slow on them


class AnswerClass(StrEnum):
    """The meaning of an answer for its job and its destination."""

    ACCEPTED = "accepted"  # 2xx, or accepted by the broker
    JOB_REFUSED = "job_refused"  # the endpoint works, and refuses this job
    FAILED = "failed"  # the destination does not work: counts for its breaker
    GONE = "gone"  # 410: the endpoint wants no more jobs


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The time of the next attempt."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """All attempts are spent."""

    reason: str


def classify(answer: DeliveryAnswer) -> AnswerClass:
    """The class of an answer. Redirects are failures: a signed job is sent only to the destination's own URL."""
    if answer.error is not None:
        return AnswerClass.FAILED
    status = answer.status
    if status is None or 200 <= status < 300:
        return AnswerClass.ACCEPTED
    if status == 410:
        return AnswerClass.GONE
    if 400 <= status < 500 and status not in ABOUT_THE_ENDPOINT:
        return AnswerClass.JOB_REFUSED
    return AnswerClass.FAILED


def problem_of(answer: DeliveryAnswer) -> str | None:
    """The answer as a message; None if it accepts."""
    if answer.error is not None:
        return answer.error
    if answer.status is None or 200 <= answer.status < 300:
        return None
    if 300 <= answer.status < 400:
        return f"answered {answer.status}: redirects are not followed"
    return f"answered {answer.status}"


def fault_of(answer: DeliveryAnswer) -> Fault:
    """The side at fault for a failed attempt."""
    return Fault.OURS if answer.ours else Fault.TEAM


def retry_after(answer: DeliveryAnswer, *, now: datetime) -> timedelta | None:
    """The wait that the endpoint asks for, from 0 to LONGEST_RETRY_AFTER; None without a readable Retry-After.

    The header holds seconds or a date (RFC 9110, 10.2.3).
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


def after_failure(
    attempts: int, *, now: datetime, chance: float, retry_after: timedelta | None = None
) -> RetryAt | GiveUp:
    """The next attempt after failure number `attempts` (from 1) of the schedule, or giving up.

    `chance`: a random number in [0, 1). `retry_after` makes the wait longer, never shorter: `Retry-After: 0` would use
    up a day's attempts within seconds.
    """
    if attempts > len(SCHEDULE):
        return GiveUp(f"{attempts} attempts failed")
    wait = max(SCHEDULE[max(attempts, 1) - 1], retry_after or timedelta(0))
    return RetryAt(now + wait * (1 + JITTER * chance))
