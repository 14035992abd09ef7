"""Whether webhooks that should arrive do not, by the rate at which they came at the same hour of earlier weeks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

WEEK: Final = timedelta(days=7)
WEEKS: Final = 4  # that are looked at
FEWEST_WEEKS: Final = 3  # with webhooks in the span; with fewer, nothing is learnt
# At a steady rate of 10 in a span, one without any comes once in 22,000.
FEWEST: Final = 10  # webhooks within the span of each of those weeks
SPANS: Final = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6))


@dataclass(frozen=True, slots=True)
class Silence:
    """No webhook came within the span, in which `usual` came in the quietest of the earlier weeks."""

    span: timedelta
    usual: int


def spans_to_learn(last_at: datetime, *, now: datetime) -> list[timedelta]:
    """The spans that have passed since the last webhook, of which earlier weeks are to be counted."""
    return [span for span in SPANS if now - last_at >= span]


def same_hours(span: timedelta, *, now: datetime) -> list[tuple[datetime, datetime]]:
    """The same span of each of the earlier weeks, the last one first: since and until."""
    ends = [now - number * WEEK for number in range(1, WEEKS + 1)]
    return [(end - span, end) for end in ends]


def silence(last_at: datetime, earlier: Mapping[timedelta, Sequence[int]], *, now: datetime) -> Silence | None:
    """The longest span without a webhook in which earlier weeks had enough; None where that is usual or not known.

    earlier: of each span, the webhooks of each week, the last one first. The oldest weeks without any are from before
    the first webhook, or are deleted. With too few others nothing is said.
    """
    for span in sorted(spans_to_learn(last_at, now=now), reverse=True):
        weeks = [*earlier.get(span, ())]
        while weeks and not weeks[-1]:
            weeks.pop()
        if len(weeks) >= FEWEST_WEEKS and min(weeks) >= FEWEST:
            return Silence(span, min(weeks))
    return None
