from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.pacing import AHEAD, advanced, allowed

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)


def test_a_second_of_jobs_may_go_at_once_and_one_more():
    assert allowed(None, 10.0, now=NOW) == 11
    assert allowed(None, 0.01, now=NOW) == 1
    assert allowed(NOW - timedelta(days=1), 10.0, now=NOW) == 11, "what was not used does not add up"


@given(
    st.floats(0.01, 5000),
    st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(seconds=100)), st.integers(0, 500)), max_size=50),
)
def test_over_any_time_no_more_than_the_rate_goes_and_what_goes_on_ahead(rate, steps):
    paced_to, now, sent = None, NOW, 0
    for pause, wanted in steps:
        now += pause
        taken = min(wanted, allowed(paced_to, rate, now=now))
        if taken:
            paced_to = advanced(paced_to, rate, taken, now=now)
        sent += taken
    elapsed = (now - NOW).total_seconds()
    # Microseconds are what a datetime can hold: each step may be off by one.
    assert sent <= (elapsed + 1e-6 * len(steps)) * rate + AHEAD.total_seconds() * rate + 1 + 1e-3


@given(st.floats(0.01, 5000))
def test_taking_all_that_is_allowed_gives_the_rate(rate):
    paced_to, sent, every = None, 0, max(0.5, 0.5 / rate)
    for step in range(100):
        now = NOW + timedelta(seconds=step * every)
        taken = allowed(paced_to, rate, now=now)
        if taken:
            paced_to, sent = advanced(paced_to, rate, taken, now=now), sent + taken
    assert sent >= 99 * every * rate - 1
