"""Sweeps: even turns over a span, no later than what was planned, and their load against the budget."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.refreshing.sweeping import LONGEST, SHORTEST, SweepLoad, busiest_minute, require_span, swept_at, turn
from app.errors import InvalidInput

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("count", [1, 7, 2400])
def test_turns_divide_the_span_evenly_and_lie_within_it(count):
    turns = [turn(place, count, begins=NOW, within=2 * HOUR) for place in range(count)]
    gaps = {round((later - earlier).total_seconds(), 3) for earlier, later in itertools.pairwise(turns)}
    assert len(gaps) <= 1
    assert NOW < turns[0] <= turns[-1] < NOW + 2 * HOUR
    assert turns[0] - NOW == NOW + 2 * HOUR - turns[-1]


@pytest.mark.parametrize(
    ("planned", "is_running", "at"),
    [
        (NOW + 2 * HOUR, False, NOW + HOUR),
        (NOW + MINUTE, False, NOW + MINUTE),  # its token may expire
        (NOW - MINUTE, False, NOW),  # overdue
        (NOW + MINUTE, True, NOW + HOUR),  # a lease that ends before the slot
        (NOW + 2 * HOUR, True, NOW + 2 * HOUR),  # one that ends after it
    ],
)
def test_a_sweep_comes_no_later_than_what_was_planned_and_not_within_a_lease(planned, is_running, at):
    assert swept_at(NOW + HOUR, planned_at=planned, is_running=is_running, now=NOW) == at


def test_the_load_stands_against_what_refreshes_may_spend():
    fitting, heavy = (SweepLoad(count, 2 * HOUR, limit=200, busiest=100) for count in (9600, 12_000))
    assert (fitting.calls_per_minute, fitting.budget_per_minute, fitting.takes) == (80, 80, 2 * HOUR)
    assert (heavy.calls_per_minute, heavy.takes) == (100, 150 * MINUTE)
    assert (fitting.fits, heavy.fits) == (True, False)
    assert (fitting.is_uneven, heavy.is_uneven) == (True, False)
    assert SweepLoad(0, HOUR, limit=1, busiest=0).budget_per_minute == 1


def test_the_busiest_minute_counts_what_was_planned_for_sooner():
    def busiest(*planned):
        return busiest_minute(planned, within=2 * HOUR, now=NOW)

    assert busiest() == 0
    assert busiest(*[None] * 240) == 2
    assert busiest(*[NOW + DAY] * 240) == 2
    assert busiest(*[NOW + timedelta(seconds=1)] * 100, *[NOW + DAY] * 140) == 100


@pytest.mark.parametrize("span", [timedelta(0), SHORTEST - timedelta(seconds=1), LONGEST + DAY])
def test_a_span_has_bounds(span):
    require_span(SHORTEST)
    require_span(LONGEST)
    with pytest.raises(InvalidInput):
        require_span(span)
