"""Hours of the week in which tokens may be renewed, in a time zone: windows, and blackouts within them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_DAY: Final = 24 * 60  # minutes
_SEARCHED: Final = 8  # days: a week, and the rest of the day that it began in
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class WeeklySpan:
    """From `begins` to `ends` on these days, in minutes of the day; over midnight where it ends before it begins.

    days: 0 is Monday.
    """

    days: frozenset[int]
    begins: int
    ends: int

    def holds(self, day: int, minute: int) -> bool:
        if self.begins < self.ends:
            return day in self.days and self.begins <= minute < self.ends
        return (day in self.days and minute >= self.begins) or ((day - 1) % 7 in self.days and minute < self.ends)


@dataclass(frozen=True, slots=True)
class Hours:
    """windows: where calls are allowed; none: always. blackouts: where they are not, also within a window."""

    windows: tuple[WeeklySpan, ...] = ()
    blackouts: tuple[WeeklySpan, ...] = ()
    zone: tzinfo = UTC

    def are_open(self, at: datetime) -> bool:
        local = at.astimezone(self.zone)
        return self._hold(local.weekday(), local.hour * 60 + local.minute)

    def are_ever_open(self) -> bool:
        """Whether a week has an open minute."""
        minutes = ((day, minute) for day in range(7) for minute in range(_DAY))
        return any(self._hold(day, minute) for day, minute in minutes)

    def _hold(self, day: int, minute: int) -> bool:
        within = not self.windows or any(span.holds(day, minute) for span in self.windows)
        return within and not any(span.holds(day, minute) for span in self.blackouts)


def read_span(text: str) -> WeeklySpan:
    """A span such as `08:00-18:30`, `sat 22:00-06:00` or `mon-fri 00:00-24:00`. Raises ValueError."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None or not {day for day in match.groups()[:2] if day} <= set(_DAYS):
        raise ValueError("expected hours such as `22:00-06:00`, `sat 08:00-12:00` or `mon-fri 08:00-18:00`")
    first, last, *times = match.groups()
    begins, ends = (int(times[at]) * 60 + int(times[at + 1]) for at in (0, 2))
    if begins >= _DAY or ends > _DAY or int(times[1]) > 59 or int(times[3]) > 59:
        raise ValueError("a day has the hours 00:00 to 24:00")
    if begins == ends:
        raise ValueError("begins when it ends")
    if first is None:
        return WeeklySpan(frozenset(range(7)), begins, ends)
    start, stop = _DAYS.index(first), _DAYS.index(last or first)
    return WeeklySpan(frozenset((start + number) % 7 for number in range((stop - start) % 7 + 1)), begins, ends)


def next_open(at: datetime, hours: Hours) -> tuple[datetime, datetime] | None:
    """The open time that holds `at`, or the next one after it, from its beginning, or `at`, to its end.

    None: none within a week. An open time without an end ends after a week.
    """
    edges = _edges(at, hours)
    begins = at if hours.are_open(at) else next((edge for edge in edges if hours.are_open(edge)), None)
    if begins is None:
        return None
    ends = next((edge for edge in edges if edge > begins and not hours.are_open(edge)), begins + timedelta(days=7))
    return begins, ends


def last_open(at: datetime, hours: Hours, *, not_before: datetime) -> datetime | None:
    """The latest open moment up to `at`; None: none from `not_before` on."""
    if hours.are_open(at):
        return at
    start = max(not_before, at - timedelta(days=_SEARCHED))
    closing = [edge - _MINUTE for edge in _edges(start, hours) if edge <= at and not hours.are_open(edge)]
    return next((edge for edge in reversed(closing) if edge >= not_before and hours.are_open(edge)), None)


def _edges(after: datetime, hours: Hours) -> Sequence[datetime]:
    """The moments after this one at which a span begins or ends, within a week."""
    local = after.astimezone(hours.zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    return sorted({edge for edge in _all_edges(midnight, hours) if edge > after})


def _all_edges(midnight: datetime, hours: Hours) -> Iterator[datetime]:
    for day in range(_SEARCHED + 1):
        # The clock of the zone is moved, and then the offset of that moment taken, so that a change of it is no error.
        begin = (midnight + timedelta(days=day)).replace(fold=0)
        for span in (*hours.windows, *hours.blackouts):
            for minute in (span.begins, span.ends):
                yield (begin + timedelta(minutes=minute)).astimezone(UTC)
