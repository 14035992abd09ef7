"""Rules of the budget for calls to Nango: which calls pass, and how long the others wait."""

import pytest

from app.domain.budget import (
    SHARES,
    Bucket,
    Priority,
    ReportedLimit,
    count,
    is_background,
    is_new,
    learn,
    wait,
)

NOW = 1_800_000_000.0


def admitted(priority: Priority, *, limit: int, used: int = 0, background: int = 0) -> int:
    """The number of consecutive calls of one kind that pass before the first is held back."""
    bucket = Bucket(limit=limit, used=used, background=background, ends_at=NOW + 60)
    passed = 0
    while True:
        bucket = count(bucket, 1, background=is_background(priority), now=NOW)
        if wait(bucket, priority, now=NOW) is not None:
            return passed
        passed += 1


def test_the_whole_limit_is_there_for_people_and_never_more():
    assert admitted(Priority.PEOPLE, limit=200) == 200


@pytest.mark.parametrize("limit", [20, 200, 1000, 5000])
def test_each_priority_leaves_something_for_those_above(limit: int):
    passed = [admitted(priority, limit=limit) for priority in Priority]
    assert passed == sorted(passed, reverse=True)
    assert len(set(passed)) == len(passed)


@pytest.mark.parametrize("priority", [Priority.RECONCILE, Priority.REFRESH])
def test_background_work_takes_half_at_most(priority: Priority):
    assert admitted(priority, limit=200) <= 100
    assert admitted(priority, limit=200, used=100, background=100) == 0


def test_what_reconcile_took_is_not_there_for_refreshes_as_well():
    assert admitted(Priority.REFRESH, limit=200, used=60, background=60) == 20
    assert admitted(Priority.RECONCILE, limit=200, used=80, background=80) == 20


def test_refreshes_that_are_urgent_are_no_background_work():
    assert admitted(Priority.REFRESH_SOON, limit=200, used=100, background=100) == 70


def test_what_the_application_spends_holds_back_the_least_urgent_first():
    passing = [priority for priority in Priority if admitted(priority, limit=200, used=160)]
    assert passing == [Priority.PEOPLE, Priority.CONFIRM, Priority.REFRESH_SOON]


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("priority", Priority)
def test_however_small_the_limit_no_kind_of_call_starves(priority: Priority, limit: int):
    assert 1 <= admitted(priority, limit=limit) <= limit


def test_a_call_that_is_held_back_passes_when_the_window_has_ended():
    full = Bucket(limit=10, used=11, ends_at=NOW + 42)
    assert wait(full, Priority.PEOPLE, now=NOW) == 42
    anew = count(full, 1, background=False, now=NOW + 42)
    assert wait(anew, Priority.PEOPLE, now=NOW + 42) is None
    assert (anew.used, anew.ends_at) == (1, NOW + 42 + 60)


def test_a_429_holds_back_every_call_until_its_time_has_passed():
    held = learn(Bucket(limit=10), ReportedLimit(retry_after=17), now=NOW)
    assert [wait(held, priority, now=NOW) for priority in Priority] == [17] * len(Priority)
    assert wait(held, Priority.PEOPLE, now=NOW + 17) is None
    assert learn(held, ReportedLimit(retry_after=2), now=NOW).held_until == NOW + 17


def test_a_retry_after_of_0_is_floored_and_waits_a_second():
    assert wait(learn(Bucket(limit=10), ReportedLimit(retry_after=0), now=NOW), Priority.PEOPLE, now=NOW) == 1


def test_an_answer_gives_the_plans_size_and_what_others_spent():
    bucket = count(Bucket(limit=200), 3, background=False, now=NOW)
    told = learn(bucket, ReportedLimit(limit=1000, used=400, ends_at=NOW + 20), now=NOW)
    assert (told.limit, told.used, told.ends_at) == (1000, 400, NOW + 21)


def test_an_answer_that_knows_of_fewer_calls_takes_none_back():
    bucket = Bucket(limit=200, used=150, ends_at=NOW + 30)
    assert learn(bucket, ReportedLimit(limit=200, used=120, ends_at=NOW + 29), now=NOW).used == 150


def test_an_answer_about_a_window_that_has_ended_says_nothing():
    bucket = Bucket(limit=200, used=5, ends_at=NOW + 60)
    assert learn(bucket, ReportedLimit(limit=200, used=199, ends_at=NOW - 5), now=NOW) == bucket


def test_a_refused_call_takes_itself_back_and_no_more_than_was_there():
    bucket = count(Bucket(limit=10), 1, background=True, now=NOW)
    assert count(bucket, -1, background=True, now=NOW) == Bucket(limit=10, ends_at=NOW + 60)
    assert count(bucket, -1, background=True, now=NOW + 61) == Bucket(limit=10, ends_at=NOW + 121)


def test_an_answer_is_news_only_where_it_says_more_than_was_known():
    bucket = Bucket(limit=200, used=50, ends_at=NOW + 60)
    known = {"limit": 200, "used": 50, "ends_at": NOW + 59}
    assert not is_new(bucket, ReportedLimit(**known))
    assert not is_new(bucket, ReportedLimit(**known | {"used": 48}))
    assert not is_new(bucket, ReportedLimit())
    for change in ({"limit": 100}, {"used": 51}, {"ends_at": NOW + 30}, {"retry_after": 0}):
        assert is_new(bucket, ReportedLimit(**known | change)), change


def test_every_priority_has_its_share():
    assert set(SHARES) == set(Priority)
