"""Identical failures are one occurrence; times to a repair are by percentiles."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.event import EventError
from app.domain.recurring_failures import RECURS_WITHIN, recurs, shape
from app.domain.repairs import percentile

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("it broke", "it broke"),
        ("it  Broke", "it broke"),
        ("request 8f0a3c1e-5b7d failed", "request 11111111-aaaa failed"),
        ("failed at 2026-11-30T12:00:01Z", "failed at 2026-11-30T13:10:00Z"),
        ("try 3 of 5", "try 4 of 5"),
        ("x" * 500 + "a", "x" * 500 + "b"),
    ],
)
def test_descriptions_that_differ_by_ids_times_and_counters_are_the_same_failure(one, other):
    assert shape(EventError("auth", one)) == shape(EventError("auth", other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (EventError("auth", "it broke"), EventError("sync", "it broke")),
        (EventError("auth", "it broke"), EventError("auth", "it was revoked")),
        (EventError("auth", ""), EventError("auth", "it broke")),
        (EventError("auth", "b"), EventError("authb", "")),
        (None, EventError("auth", "it broke")),
    ],
)
def test_other_types_and_other_words_are_another_failure(one, other):
    assert shape(one) != shape(other)


@pytest.mark.parametrize(
    ("former", "age", "expected"),
    [
        ("a", timedelta(0), True),
        ("a", RECURS_WITHIN, True),
        ("a", RECURS_WITHIN + timedelta(seconds=1), False),
        ("a", -timedelta(minutes=1), True),  # processed in another order than received
        ("b", timedelta(0), False),
        (None, timedelta(0), False),
    ],
)
def test_a_failure_repeats_the_former_one_of_the_same_shape_within_a_day(former, age, expected):
    assert recurs("a", former=former, former_at=NOW - age, now=NOW) is expected
    assert not recurs("a", former=former, former_at=None, now=NOW)


@pytest.mark.parametrize(
    ("minutes", "half", "most"),
    [([5], 5, 5), ([1, 2], 1, 2), ([1, 2, 3], 2, 3), (range(1, 11), 5, 9), (range(1, 101), 50, 90)],
)
def test_a_percentile_is_a_time_that_so_many_did_not_exceed(minutes, half, most):
    spans = [timedelta(minutes=each) for each in minutes]
    assert (percentile(spans, 0.5), percentile(spans, 0.9)) == (timedelta(minutes=half), timedelta(minutes=most))
    assert percentile([], 0.5) is None
