"""Webhooks that should arrive and do not are told by the rate of earlier weeks; too little is known to say: nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.arrivals import FEWEST, SPANS, Silence, same_hours, silence, spans_to_learn

NOW = datetime(2026, 11, 30, 14, tzinfo=UTC)
TEN, HOUR, SIX = SPANS


@pytest.mark.parametrize(
    ("quiet_for", "earlier", "found"),
    [
        (TEN, {TEN: [40, 30, 50, 60]}, Silence(TEN, 30)),
        (TEN - timedelta(seconds=1), {TEN: [40, 30, 50, 60]}, None),
        (HOUR, {TEN: [1, 0, 3, 2], HOUR: [20, 15, 30, 12]}, Silence(HOUR, 12)),
        (HOUR, {TEN: [90, 90, 90, 90], HOUR: [200, 150, 300, 120]}, Silence(HOUR, 120)),
        (SIX, {TEN: [0, 0, 0, 0], HOUR: [2, 2, 2, 2], SIX: [12, 12, 12, 12]}, Silence(SIX, 12)),
        (TEN, {TEN: [FEWEST, FEWEST, FEWEST]}, Silence(TEN, FEWEST)),
        (TEN, {TEN: [FEWEST, FEWEST - 1, FEWEST]}, None),
        (TEN, {TEN: [40, 40, 40, 0]}, Silence(TEN, 40)),
        (TEN, {TEN: [40, 40, 0, 0]}, None),
        (TEN, {TEN: [0, 40, 40, 40]}, None),
        (TEN, {TEN: [40, 0, 40, 40]}, None),
        (TEN, {TEN: []}, None),
        (SIX, {}, None),
    ],
    ids=[
        "none for ten minutes",
        "not for long enough",
        "too few in ten minutes, enough in an hour",
        "the longest span is told",
        "few webhooks need a long span",
        "just enough",
        "one week with too few",
        "three weeks are known",
        "two weeks are too few",
        "none last week either",
        "a quiet week between",
        "nothing known",
        "nothing counted",
    ],
)
def test_a_silence_is_told_where_earlier_weeks_had_webhooks(quiet_for, earlier, found):
    assert silence(NOW - quiet_for, earlier, now=NOW) == found


def test_only_spans_that_have_passed_are_counted():
    assert spans_to_learn(NOW - timedelta(minutes=9), now=NOW) == []
    assert spans_to_learn(NOW - HOUR, now=NOW) == [TEN, HOUR]
    assert spans_to_learn(NOW - timedelta(days=9), now=NOW) == [TEN, HOUR, SIX]


def test_the_spans_of_earlier_weeks_end_at_the_same_hour_of_the_week():
    spans = same_hours(HOUR, now=NOW)
    assert [(until - since, (NOW - until).days) for since, until in spans] == [(HOUR, days) for days in (7, 14, 21, 28)]
