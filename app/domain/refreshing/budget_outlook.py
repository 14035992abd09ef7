"""The calls of a forecast against the request budget: the busiest minute, and what comes too late for want of it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.budget import BACKGROUND_SHARES, SHARES, SOON, Priority

_KEPT: Final = 10  # minutes from the last turn of a window to the expiry, by the default policy


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOutlook:
    """per_minute: the calls that refreshes may make. busiest: calls of the busiest minute, which is `busiest_place`.
    mean: of all minutes. minutes_over: with more calls than that. too_late: calls that wait until the token expires.
    """

    per_minute: float
    busiest: float
    busiest_place: int
    mean: float
    minutes_over: int
    too_late: float


def budget_per_minute(limit: int) -> float:
    """The calls per minute that refreshes may make of an account's limit."""
    return limit * BACKGROUND_SHARES[Priority.REFRESH]


def outlook(minutes: Sequence[float], limit: int) -> BudgetOutlook:
    """The outlook for these calls of each minute, which all spend from one account."""
    budget = budget_per_minute(limit)
    place = max(range(len(minutes)), key=minutes.__getitem__)
    return BudgetOutlook(
        per_minute=budget,
        busiest=minutes[place],
        busiest_place=place,
        mean=sum(minutes) / len(minutes),
        minutes_over=sum(calls > budget for calls in minutes),
        too_late=_too_late(minutes, budget, limit * SHARES[Priority.REFRESH_SOON]),
    )


def _too_late(minutes: Sequence[float], budget: float, urgent: float) -> float:
    """The calls that wait until their token expires, in order of their turn.

    Those whose token expires within SOON may use what the application leaves of a larger share: here, all of it.
    """
    waiting: deque[list[float]] = deque()  # the minute of their turn, and how many
    late, urgent_from = 0.0, _KEPT - SOON / 60
    for minute, calls in enumerate(minutes):
        if calls:
            waiting.append([minute, calls])
        left, most = budget, urgent
        while waiting:
            turn, count = waiting[0]
            if minute - turn >= _KEPT:
                late += count
                waiting.popleft()
                continue
            room = most if minute - turn >= urgent_from else min(left, most)
            taken = min(count, max(room, 0.0))
            waiting[0][1] -= taken
            left, most = left - taken, most - taken
            if waiting[0][1] > 0:
                break
            waiting.popleft()
    return late
