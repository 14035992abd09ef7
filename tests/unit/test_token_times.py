"""Deadlines in a provider's token response: any value of JSON is read, or counts as none."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.refreshing.token_times import LATEST_DEADLINE, LONGEST_LIFE, NO_TIMES, TokenTimes, read_token_times

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
DAY = timedelta(days=1)
MONTH = 30 * 86_400


def times(raw, **credentials):
    return read_token_times({"type": "OAUTH2", "access_token": "t", "raw": raw} | credentials)


@pytest.mark.parametrize(
    "name",
    [
        "refresh_token_expires_in",
        "x_refresh_token_expires_in",
        "refreshTokenExpiresIn",
        "refresh_expires_in",
        "refresh-token-expires-in",
        "x_refresh_token_hard_expires_in",
        "refresh_token_lifetime",
        "refresh_token_ttl",
        "rEFRESH_TOKEN_EXPIRES_IN",
    ],
)
@pytest.mark.parametrize("value", [MONTH, float(MONTH), str(MONTH), f" {MONTH} ", f"{MONTH}.0"], ids=repr)
def test_the_life_of_a_refresh_token_is_read_from_each_name_and_form(name, value):
    assert times({name: value}) == TokenTimes(grant_life=30 * DAY)


@pytest.mark.parametrize(
    "name",
    [
        "refresh_token_expires_at",
        "refresh_token_expires_on",
        "refreshTokenExpiresAt",
        "refresh_expires_at",
        "refresh_token_expiry",
        "refresh_token_expiration",
        "refresh_token_expiration_date",
        "refresh_token_expires",
        "refreshTokenExpireTime",
    ],
)
@pytest.mark.parametrize(
    "value",
    [EPOCH, EPOCH * 1000, str(EPOCH), str(EPOCH * 1000), float(EPOCH), "2026-11-30T12:00:00Z", "2026-11-30 13:00+01"],
    ids=repr,
)
def test_the_deadline_of_a_refresh_token_is_read_from_each_name_and_form(name, value):
    assert times({name: value}) == TokenTimes(grant_at=NOW)


def test_a_life_in_milliseconds_and_a_time_under_a_name_of_lives_are_told_by_their_size():
    assert times({"refresh_token_expires_in": MONTH * 1000 * 12}).grant_life == 360 * DAY
    assert times({"refresh_token_expires_in": EPOCH}).grant_at == NOW
    assert times({"refresh_token_expires_at": MONTH}).grant_life == 30 * DAY


@pytest.mark.parametrize(
    "value",
    [
        0, -1, -MONTH, True, False, None, "", " ", "never", "NaN", "nan", "inf", "-1", "1e9", "0", "1" * 65, 10**400,
        -(10**400), 1e308, float("nan"), float("inf"), float("-inf"), [], [MONTH], {}, {"seconds": MONTH}, "P30D",
        "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2100-01-01", "2999-01-01", "1969-07-20", 10**13, "٣٠",
        "2026-13-45", "2026-11-30T99:00:00Z", "\x00", "\ud800",
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_is_no_plausible_time_counts_as_none(value):
    for name in ("refresh_token_expires_in", "refresh_token_expires_at", "expires_in"):
        assert times({name: value}) == NO_TIMES
    assert times({"refresh_token_expires_in": value, "refresh_expires_in": 60}).grant_life == timedelta(minutes=1)
    assert times({"expires_in": value}, expires_at="2026-11-30T12:00:00Z") == TokenTimes(NOW)


@pytest.mark.parametrize(
    "name",
    ["refresh_token", "expires_in", "token_expires_in", "refresh_interval", "refreshed_at", "refresh", "refresh_url"],
)
def test_other_members_are_no_deadline_of_the_grant(name):
    found = times({name: MONTH})
    assert (found.grant_at, found.grant_life) == (None, None)


def test_the_issue_of_a_token_follows_from_its_expiry_and_life_in_one_answer():
    found = times({"expires_in": 3600, "refresh_token_expires_in": MONTH}, expires_at="2026-11-30T12:00:00Z")
    assert found == TokenTimes(NOW, issued_at=NOW - timedelta(hours=1), grant_life=30 * DAY)
    assert times({"expires_in": 3600}).issued_at is None
    assert times({}, expires_at="2026-11-30T12:00:00Z").issued_at is None


def test_the_earliest_of_several_deadlines_holds():
    found = times({"refresh_token_expires_in": MONTH, "x_refresh_token_hard_expires_in": 2 * MONTH})
    assert found.grant_life == 30 * DAY
    found = times({"refresh_token_expires_at": EPOCH, "data": {"refresh_expires_at": EPOCH - 60}})
    assert found.grant_at == NOW - timedelta(minutes=1)


@pytest.mark.parametrize("raw", [None, [], "text", 7, {}, {"data": None}, {"data": []}], ids=repr)
def test_an_answer_without_a_token_response_has_no_times_but_the_expiry(raw):
    assert times(raw) == NO_TIMES
    assert read_token_times({}) == NO_TIMES


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=40), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["refresh_token_expires_in", "refreshTokenExpiresAt", "expires_in", "data"]) | st.text()


@given(raw=st.dictionaries(names, values), expires_at=values)
def test_no_answer_of_json_stops_the_reading(raw, expires_at):
    found = times(raw, expires_at=expires_at)
    assert found.grant_life is None or timedelta(0) < found.grant_life <= LONGEST_LIFE
    assert found.grant_at is None or found.grant_at < LATEST_DEADLINE
    if found.grant_life is not None:
        assert NOW + found.grant_life > NOW


def test_a_large_response_is_read_in_part():
    raw = {f"member {number}": number for number in range(100_000)} | {"refresh_token_expires_in": MONTH}
    assert times(raw) == NO_TIMES
