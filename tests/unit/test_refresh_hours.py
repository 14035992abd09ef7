"""Windows and blackouts of a week, in a time zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.refreshing.hours import Hours, WeeklySpan, last_open, next_open, read_span

MONDAY = datetime(2026, 11, 30, tzinfo=UTC)
HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")


def hours(*windows: str, blackouts: tuple[str, ...] = (), zone=UTC) -> Hours:
    return Hours(tuple(map(read_span, windows)), tuple(map(read_span, blackouts)), zone)


@pytest.mark.parametrize(
    ("text", "days", "begins", "ends"),
    [
        ("08:00-18:30", range(7), 480, 1110),
        ("22:00-06:00", range(7), 1320, 360),
        ("sat 00:00-24:00", [5], 0, 1440),
        ("mon-fri 08:00-18:00", range(5), 480, 1080),
        ("Fri-Mon 08:00-18:00", [4, 5, 6, 0], 480, 1080),
        (" sun 01:02-03:04 ", [6], 62, 184),
    ],
)
def test_a_span_is_read(text, days, begins, ends):
    assert read_span(text) == WeeklySpan(frozenset(days), begins, ends)


@pytest.mark.parametrize(
    "text",
    ["", "8:00-9:00", "08:00", "08:00-08:00", "24:00-01:00", "08:00-24:30", "08:60-09:00", "foo 08:00-09:00",
     "mon-xyz 08:00-09:00", "mon,tue 08:00-09:00", "08:00 - 09:00"],
)  # fmt: skip
def test_what_is_no_span_is_refused(text):
    with pytest.raises(ValueError, match=r"expected hours|a day has|begins when"):
        read_span(text)


@pytest.mark.parametrize(
    ("held", "at", "is_open"),
    [
        (hours(), MONDAY, True),
        (hours("08:00-18:00"), MONDAY + 8 * HOUR, True),
        (hours("08:00-18:00"), MONDAY + 18 * HOUR, False),
        (hours("sun 22:00-06:00"), MONDAY + 5 * HOUR, True),  # since Sunday
        (hours("mon 22:00-06:00"), MONDAY + 5 * HOUR, False),
        (hours("mon 22:00-06:00"), MONDAY + 29 * HOUR, True),
        (hours(blackouts=("mon 08:00-09:00",)), MONDAY + 8 * HOUR, False),
        (hours("08:00-18:00", blackouts=("12:00-13:00",)), MONDAY + 12 * HOUR, False),
        (hours("08:00-09:00", zone=BERLIN), MONDAY + 7 * HOUR, True),
        (hours("08:00-09:00", zone=BERLIN), MONDAY + 8 * HOUR, False),
    ],
)
def test_a_moment_is_open_within_windows_and_outside_of_blackouts(held, at, is_open):
    assert held.are_open(at) is is_open


def test_the_next_open_time_has_its_beginning_and_end():
    held = hours("08:00-18:00", blackouts=("12:00-13:00",))
    assert next_open(MONDAY, held) == (MONDAY + 8 * HOUR, MONDAY + 12 * HOUR)
    assert next_open(MONDAY + 9 * HOUR, held) == (MONDAY + 9 * HOUR, MONDAY + 12 * HOUR)
    assert next_open(MONDAY + 19 * HOUR, held) == (MONDAY + 32 * HOUR, MONDAY + 36 * HOUR)
    assert next_open(MONDAY, hours("sun 00:00-01:00")) == (MONDAY + 6 * DAY, MONDAY + 6 * DAY + HOUR)
    assert next_open(MONDAY, hours(blackouts=("00:00-24:00",))) is None


def test_the_last_open_moment_is_before_the_closed_hours():
    held = hours("08:00-18:00")
    assert last_open(MONDAY + 20 * HOUR, held, not_before=MONDAY) == MONDAY + 18 * HOUR - MINUTE
    assert last_open(MONDAY + 9 * HOUR, held, not_before=MONDAY) == MONDAY + 9 * HOUR
    assert last_open(MONDAY + 7 * HOUR, held, not_before=MONDAY) is None


def test_a_change_of_the_clock_moves_the_hours_with_it():
    """On the last Sunday of March, Berlin's clocks go from 2 to 3."""
    sunday = datetime(2027, 3, 28, tzinfo=UTC)
    assert next_open(sunday - DAY, hours("08:00-09:00", zone=BERLIN))[0] == sunday - DAY + 7 * HOUR
    assert next_open(sunday, hours("08:00-09:00", zone=BERLIN))[0] == sunday + 6 * HOUR


@pytest.mark.parametrize(
    ("held", "ever"),
    [
        (hours(), True),
        (hours(blackouts=("00:00-24:00",)), False),
        (hours("08:00-09:00", blackouts=("07:00-10:00",)), False),
        (hours("08:00-09:00", blackouts=("mon-sat 07:00-10:00",)), True),
    ],
)
def test_hours_that_are_never_open_are_known(held, ever):
    assert held.are_ever_open() is ever


spans = st.tuples(st.integers(0, 6), st.integers(0, 1439), st.integers(0, 1440)).filter(lambda span: span[1] != span[2])


@given(
    windows=st.lists(spans, max_size=3),
    blackouts=st.lists(spans, max_size=2),
    minutes=st.integers(0, 14 * 24 * 60),
    zone=st.sampled_from([UTC, BERLIN]),
)
def test_what_is_found_is_open_and_on_the_asked_side(windows, blackouts, minutes, zone):
    at = datetime(2027, 3, 22, tzinfo=UTC) + minutes * MINUTE
    made = [
        tuple(WeeklySpan(frozenset({day}), begins, ends) for day, begins, ends in each) for each in (windows, blackouts)
    ]
    held = Hours(*made, zone)
    found = next_open(at, held)
    if found is not None:
        assert at <= found[0] < found[1]
        assert held.are_open(found[0])
    else:
        assert not held.are_ever_open()
    before = last_open(at, held, not_before=at - 3 * DAY)
    if before is not None:
        assert at - 3 * DAY <= before <= at
        assert held.are_open(before)
