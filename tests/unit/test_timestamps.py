"""Dates as other systems write them: whatever is sent, what is read can be stored, shown and calculated with."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.timestamps import EARLIEST, LATEST, read_moment

NOON = datetime(2026, 8, 21, 12, 0, 1, tzinfo=UTC)
A_THOUSAND_YEARS = timedelta(days=365_000)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-08-21T12:00:01Z", NOON),
        ("2026-08-21T12:00:01+00:00", NOON),
        ("2026-08-21T12:00:01+0000", NOON),
        ("2026-08-21t12:00:01z", NOON),
        (" 2026-08-21T12:00:01 ", NOON),  # without a zone it is UTC
        ("2026-08-21 12:00:01+00", NOON),  # PostgreSQL's own form
        ("2026-08-21 05:00:01-07", NOON),
        ("2026-08-22T02:00:01+14:00", NOON),
        ("2026-08-21T12:00:01.5Z", NOON + timedelta(milliseconds=500)),
        ("2026-08-21T12:00:01.000000999Z", NOON),  # nanoseconds
        ("2026-08-21", datetime(2026, 8, 21, tzinfo=UTC)),
        ("20260821T120001Z", NOON),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2016-12-31 23:59:60.25+00", datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2017-01-01T08:59:60+09:00", datetime(2017, 1, 1, tzinfo=UTC)),
        (1787313601, NOON),
        (1787313601.0, NOON),
        (1787313601000, NOON),
        ("1787313601", NOON),
        ("1787313601000", NOON),
        ("1787313601.25", NOON + timedelta(milliseconds=250)),
        ("1971-01-01T00:00:00Z", EARLIEST),
        ("2999-12-31T23:59:59.999999999Z", LATEST - timedelta(microseconds=1)),
    ],
)
def test_every_form_of_a_moment_is_read(value: object, at: datetime) -> None:
    assert read_moment(value) == at


@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01T00:00:00.000Z",  # Go and .NET write it for "none"
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",  # no such date in UTC
        "0001-01-01 00:00:00+00",
        "9999-12-31T23:59:59.999999999Z",  # "never"
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:60-14:00",
        "1970-01-01T00:00:00Z",
        "1970-12-31T23:59:59Z",
        "3000-01-01T00:00:00Z",
        "2999-12-31T23:59:60Z",
        "2999-12-31T23:59:59-01:00",
        "-0001-01-01T00:00:00Z",
        "+12026-01-01T00:00:00Z",
        "0044-03-15 12:00:00+00 BC",
        "infinity",
        "-infinity",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-08-21T25:00:00Z",
        "2026-08-21T12:60:00Z",
        "2026-08-21T12:00:61Z",
        "2026-08-21T12:00:01+99:00",
        "2026-08-21T12:00:01 Europe/Berlin",
        "Fri, 21 Aug 2026 12:00:01 GMT",
        "in an hour",
        "null",
        "",
        " ",
        "\x00",
        "\ud800",
        "\N{FULLWIDTH DIGIT TWO}026-08-21",
        "2026-08-21T12:00:01Z" + " x" * 1_000_000,
        "9" * 16,
        "9" * 5_000,
        "3600",
        None,
        True,
        False,
        0,
        -1,
        3600,
        10**14,
        10**400,
        -(10**400),
        1e14,
        1e308,
        float("nan"),
        float("inf"),
        float("-inf"),
        [],
        {},
        ["2026-08-21T12:00:01Z"],
        {"seconds": 1787313601},
        b"2026-08-21T12:00:01Z",
        NOON,
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_not_a_plausible_date_counts_as_none(value: object) -> None:
    assert read_moment(value) is None


ANYTHING = st.one_of(
    st.text(max_size=80),
    st.integers(),
    st.floats(),
    st.datetimes().map(datetime.isoformat),
    st.builds(
        lambda at, minutes: at.replace(tzinfo=timezone(timedelta(minutes=minutes))).isoformat(" "),
        st.datetimes(),
        st.integers(-23 * 60, 23 * 60),
    ),
    st.from_regex(
        r"[0-9]{1,5}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9:]{2,8})?", fullmatch=True
    ),
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{0,12})?", fullmatch=True),
)


@given(ANYTHING)
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59.999999999-14:00")
@example("2016-12-31T23:59:60Z")
def test_whatever_is_sent_is_none_or_a_date_to_calculate_with(value: object) -> None:
    at = read_moment(value)
    if at is None:
        return
    assert EARLIEST <= at < LATEST
    assert at.utcoffset() == timedelta(0)
    assert at - A_THOUSAND_YEARS < at < at + A_THOUSAND_YEARS
    assert read_moment(at.isoformat()) == at


@given(
    st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None) - timedelta(days=1)),
    st.integers(-23 * 60, 23 * 60),
)
def test_a_moment_is_the_same_in_every_zone(at: datetime, minutes: int) -> None:
    moved = at.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    assert read_moment(moved.isoformat()) == read_moment(moved.isoformat(" ")) == at.replace(tzinfo=UTC)
