from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from app.domain.retrying import JITTER, SCHEDULE, GiveUp, RetryAt, after_failure

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)


def test_the_published_schedule():
    assert [wait.total_seconds() for wait in SCHEDULE] == [5, 30, 120, 600, 3600, 10_800, 28_800, 43_200]


@pytest.mark.parametrize("attempts", range(1, len(SCHEDULE) + 1))
def test_each_failure_waits_its_time_and_a_little_more(attempts):
    wait = SCHEDULE[attempts - 1]
    assert after_failure(attempts, now=NOW, chance=0.0) == RetryAt(NOW + wait)
    latest = after_failure(attempts, now=NOW, chance=0.999999).at
    assert NOW + wait < latest < NOW + wait * (1 + JITTER)


def test_after_the_last_wait_it_is_given_up_with_the_number_of_attempts():
    for attempts in (len(SCHEDULE) + 1, len(SCHEDULE) + 2, 1000):
        assert after_failure(attempts, now=NOW, chance=0.5) == GiveUp(f"{attempts} attempts failed")


def test_no_wait_overtakes_the_next_one():
    for earlier, later in pairwise(SCHEDULE):
        assert earlier * (1 + JITTER) < later
    assert sum(SCHEDULE, timedelta()) > timedelta(days=1)
