"""Ranges of time that figures are shown over: their steps, the parts that a viewer narrows them to, and ranges near by.

Pure: no clock, and no I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.figures import Step

STEPS: Final = {Step.MINUTE: timedelta(minutes=1), Step.HOUR: timedelta(hours=1), Step.DAY: timedelta(days=1)}
# The longest time that is shown by each step.
_MOST: Final = {Step.MINUTE: timedelta(hours=3), Step.HOUR: timedelta(days=8)}
LONGEST: Final = timedelta(days=366)
MOST_PARTS: Final = 12  # of a chart: each has to be wide enough to be hit on a narrow screen
# Lengths of parts, and of wider ranges.
_PARTS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (10, 30, 60, 2 * 60, 6 * 60, 12 * 60, 1440, 2 * 1440, 7 * 1440, 30 * 1440, 61 * 1440)
)
_LENGTHS: Final = (timedelta(hours=1), timedelta(hours=24), timedelta(days=7), timedelta(days=30), LONGEST)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The time from `since` to before `until`, both at the beginning of a span of `step`."""

    since: datetime
    until: datetime
    step: Step

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    @property
    def spans(self) -> list[datetime]:
        """The beginnings of its spans."""
        return [self.since + number * STEPS[self.step] for number in range(self.length // STEPS[self.step])]

    def share(self, at: datetime) -> float:
        """The place of a time in the range, from 0 to 1."""
        return (at - self.since) / self.length

    @property
    def query(self) -> dict[str, str]:
        """The parameters of a page of this time."""
        return {"since": short(self.since), "until": short(self.until)}


def of_step(since: datetime, until: datetime, step: Step) -> TimeRange:
    """The spans of a step that begin within a time, and the one before it where none does."""
    begin, end = (_next(at, step) for at in (since, until))
    return TimeRange(min(begin, end - STEPS[step]), end, step)


def _next(at: datetime, step: Step) -> datetime:
    """The beginning of a span, at that time or next."""
    start = step.start(at)
    return start if start == at else start + STEPS[step]


def range_of(since: datetime, until: datetime, *, now: datetime) -> TimeRange:
    """The range by the finest step that is kept for all of it and short enough to be drawn."""
    fitting = (step for step, most in _MOST.items() if until - since <= most and since >= now - step.kept)
    return of_step(since, until, next(fitting, Step.DAY))


def parts_of(whole: TimeRange) -> Sequence[TimeRange]:
    """Up to MOST_PARTS parts of a range, each shorter than it; none of one that cannot be narrowed."""
    fitting = (each for each in _PARTS if STEPS[whole.step] <= each and whole.length <= each * MOST_PARTS)
    length = next(fitting, _PARTS[-1])
    if length >= whole.length:
        return ()
    count = -(-whole.length // length)
    ends = [min(whole.since + (number + 1) * length, whole.until) for number in range(count)]
    return [TimeRange(whole.since + number * length, end, whole.step) for number, end in enumerate(ends)]


def near_by(whole: TimeRange, *, now: datetime) -> list[tuple[str, tuple[datetime, datetime]]]:
    """The ranges before and behind it and the next wider one, by their names; none that lies in the future."""
    found = [("Earlier", (whole.since - whole.length, whole.since))]
    if whole.until < now:
        found.append(("Later", (whole.until, min(whole.until + whole.length, now))))
    wider = next((each for each in _LENGTHS if each > whole.length * 1.1), None)
    if wider is not None:
        end = min(whole.since + (whole.length + wider) / 2, now)
        found.append(("Wider", (end - wider, end)))
    return found


def short(at: datetime) -> str:
    """A time in UTC to the minute, as the URLs of pages have it."""
    return f"{at:%Y-%m-%dT%H:%MZ}"
