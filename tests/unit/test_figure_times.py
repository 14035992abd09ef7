"""Times that figures are shown over: what they are drawn by, the parts that they are narrowed to, those near by."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.figures import Step
from app.web.console.figure_times import LONGEST, MOST_PARTS, STEPS, near_by, of_step, parts_of, range_of

NOW = datetime(2026, 11, 30, 12, 34, 56, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("ago", "length", "step"),
    [
        (HOUR, HOUR, Step.MINUTE),
        (DAY, DAY, Step.HOUR),
        (7 * DAY, 7 * DAY, Step.HOUR),
        (30 * DAY, 30 * DAY, Step.DAY),
        (3 * DAY, HOUR, Step.HOUR),  # minutes of then are not kept any more
        (40 * DAY, HOUR, Step.DAY),
        (LONGEST, LONGEST, Step.DAY),
    ],
)
def test_a_time_is_drawn_by_the_finest_step_that_is_kept_and_short_enough(ago, length, step):
    shown = range_of(NOW - ago, NOW - ago + length, now=NOW)
    assert shown.step is step
    assert 1 <= len(shown.spans) <= 366
    assert shown.since == step.start(shown.since)
    assert shown.until == step.start(shown.until)
    assert shown.until - shown.spans[-1] == STEPS[step]


def test_a_time_of_the_overview_begins_within_itself_and_ends_with_now():
    shown = of_step(NOW - DAY, NOW, Step.HOUR)
    assert len(shown.spans) == 24
    assert shown.since >= NOW - DAY
    assert shown.spans[-1] == Step.HOUR.start(NOW)


@pytest.mark.parametrize("minutes", [7, 10, 11, 59, 60, 180, 200, 360, 600, 1000, 1440, 7200, 10_080, 43_200, 500_000])
def test_parts_of_a_chart_cover_it_are_few_and_lead_to_minutes(minutes):
    whole = range_of(NOW - timedelta(minutes=minutes), NOW, now=NOW)
    while parts := parts_of(whole):
        assert len(parts) <= MOST_PARTS
        assert [part.since for part in parts] == [whole.since, *(part.until for part in parts[:-1])]
        assert parts[-1].until == whole.until
        assert all(part.length < whole.length for part in parts)
        whole = range_of(parts[-1].since, min(parts[-1].until, NOW), now=NOW)
    assert whole.length <= timedelta(minutes=10)


def test_a_chart_has_as_many_parts_as_are_wide_enough():
    assert len(parts_of(range_of(NOW - 2 * HOUR, NOW, now=NOW))) == MOST_PARTS


def test_times_near_by_are_of_the_same_length_or_the_next_and_none_is_later_than_now():
    past = range_of(NOW - 5 * HOUR, NOW - 4 * HOUR, now=NOW)
    found = dict(near_by(past, now=NOW))
    assert found["Earlier"] == (past.since - HOUR, past.since)
    assert found["Later"] == (past.until, past.until + HOUR)
    assert found["Wider"][1] - found["Wider"][0] == DAY
    last = dict(near_by(range_of(NOW - HOUR, NOW, now=NOW), now=NOW))
    assert set(last) == {"Earlier", "Wider"}
    assert last["Wider"] == (NOW - DAY, NOW)
    assert set(dict(near_by(range_of(NOW - LONGEST, NOW, now=NOW), now=NOW))) == {"Earlier"}
