"""Sweeps: all grants of an integration renewed by force within a span, spread evenly over it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.budget import BACKGROUND_SHARES, Priority
from app.errors import InvalidInput

REASON: Final = "a sweep of its integration"  # of the plans, by which a repeated sweep knows them
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=30)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SweepLoad:
    """Calls of a sweep against the account's request budget.

    limit: requests per minute of the account. busiest: calls of the busiest minute.
    """

    count: int
    within: timedelta
    limit: int
    busiest: int

    @property
    def calls_per_minute(self) -> float:
        return self.count / (self.within / _MINUTE)

    @property
    def budget_per_minute(self) -> int:
        """The calls that refreshes may make, all of them together."""
        return max(1, int(self.limit * BACKGROUND_SHARES[Priority.REFRESH]))

    @property
    def takes(self) -> timedelta:
        """The time until the last one at the earliest: the span, or longer where the budget does not allow it."""
        return max(self.within, self.count / self.budget_per_minute * _MINUTE)

    @property
    def fits(self) -> bool:
        return self.calls_per_minute <= self.budget_per_minute

    @property
    def is_uneven(self) -> bool:
        """Whether tokens that expire sooner make a minute busier than an even spread would."""
        return self.busiest > 1.1 * self.calls_per_minute + 1


def busiest_minute(planned: Sequence[datetime | None], *, within: timedelta, now: datetime) -> int:
    """The calls of the busiest minute of a sweep that begins now. planned: when each connection's plan is due."""
    slots = (turn(place, len(planned), begins=now, within=within) for place in range(len(planned)))
    moments = (
        slot if at is None else swept_at(slot, planned_at=at, is_running=False, now=now)
        for slot, at in zip(slots, planned, strict=True)
    )
    return max(Counter((moment - now) // _MINUTE for moment in moments).values(), default=0)


def require_span(within: timedelta) -> None:
    """Raises InvalidInput for a span that no sweep can have."""
    if not SHORTEST <= within <= LONGEST:
        raise InvalidInput("a sweep takes from 1m to 30d")


def turn(place: int, count: int, *, begins: datetime, within: timedelta) -> datetime:
    """The moment of the connection at this place, from 0 on, of so many."""
    return begins + within * ((place + 0.5) / count)


def swept_at(slot: datetime, *, planned_at: datetime, is_running: bool, now: datetime) -> datetime:
    """The moment of a sweep's renewal in place of an open plan.

    Not later than what was planned, since its token may expire then; but after the lease of a call that is under way,
    so that no forced call meets another. planned_at: when that is due, or its lease ends.
    """
    if is_running:
        return max(slot, planned_at)
    return min(slot, max(planned_at, now))
