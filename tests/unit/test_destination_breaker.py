"""Rules by which a destination counts as failing, and is tried again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.destination_breaker import JITTER, MIN_FAILURES, PROBE_WAITS, WINDOW, HealthState, Tally, next_health

NOW = datetime(2026, 8, 21, 9, 0, tzinfo=UTC)
FRESH = HealthState(window_at=NOW)
FAILED, FINE = Tally(failed=1, error="answered 503"), Tally(succeeded=1)


def after(health, *tallies, now=NOW, chance=0.0):
    for tally in tallies:
        health = next_health(health, tally, now=now, chance=chance)
    return health


def open_breaker(now=NOW):
    return after(FRESH, Tally(failed=MIN_FAILURES, error="answered 503"), now=now)


def test_a_few_failures_say_nothing():
    assert after(FRESH, *[FAILED] * (MIN_FAILURES - 1)).failing_since is None


def test_enough_of_them_open_the_breaker_and_say_why():
    health = after(FRESH, *[FAILED] * MIN_FAILURES)
    assert (health.failing_since, health.probe_at, health.last_error) == (NOW, NOW + PROBE_WAITS[0], "answered 503")


@pytest.mark.parametrize(("succeeded", "opens"), [(MIN_FAILURES, True), (MIN_FAILURES + 1, False)])
def test_it_takes_half_of_the_hand_overs(succeeded, opens):
    health = after(FRESH, Tally(succeeded=succeeded), Tally(failed=MIN_FAILURES))
    assert (health.failing_since is not None) is opens


def test_what_went_well_an_hour_ago_does_not_hide_that_all_fails_now():
    health = after(FRESH, Tally(succeeded=10_000))
    later = NOW + timedelta(hours=1)
    assert after(health, *[FAILED] * MIN_FAILURES, now=later).failing_since == later


def test_failures_far_apart_count_while_nothing_succeeds_between():
    health = FRESH
    for hour in range(MIN_FAILURES):
        assert health.failing_since is None
        health = after(health, FAILED, now=NOW + timedelta(hours=hour))
    assert health.failing_since is not None
    health = FRESH
    for hour in range(10 * MIN_FAILURES):
        health = after(health, FAILED, FINE, now=NOW + timedelta(hours=hour))
        health = after(health, FINE, now=NOW + timedelta(hours=hour) + 2 * WINDOW)
    assert health.failing_since is None


def test_while_it_is_open_only_a_probe_decides():
    health = open_breaker()
    late = after(health, Tally(succeeded=500), Tally(failed=500, error="late"))
    assert (late.failing_since, late.probe_at, late.probes) == (health.failing_since, health.probe_at, 0)
    assert after(health, Tally(succeeded=1, probe=True)).failing_since is None


def test_probes_that_fail_wait_longer_and_longer_up_to_a_bound():
    health, waits = open_breaker(), []
    for _ in range(8):
        health = after(health, Tally(failed=1, probe=False))
        waits.append(health.probe_at - NOW)
    assert waits == [*PROBE_WAITS[1:], *[PROBE_WAITS[-1]] * 4]
    assert health.failing_since == NOW


def test_a_retry_after_of_the_endpoint_delays_its_probe():
    tally = Tally(failed=MIN_FAILURES, retry_after=timedelta(hours=1))
    assert after(FRESH, tally).probe_at == NOW + timedelta(hours=1)


def test_a_recovered_destination_starts_anew():
    health = after(open_breaker(), Tally(succeeded=1, probe=True))
    assert (health.succeeded, health.failed, health.probe_at, health.probes) == (0, 0, None, 0)
    assert after(health, *[FAILED] * (MIN_FAILURES - 1)).failing_since is None


TALLIES = st.builds(
    Tally,
    succeeded=st.integers(0, 9),
    failed=st.integers(0, 9),
    error=st.none() | st.text(max_size=5),
    probe=st.none() | st.booleans(),
    retry_after=st.none() | st.timedeltas(timedelta(0), timedelta(hours=12)),
)
STEPS = st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(hours=2)), TALLIES, st.floats(0, 0.99)))


@given(STEPS)
def test_whatever_happens_the_breaker_is_whole(steps):
    """Open means that a probe is planned, not before its wait and not after its bound; closed means that none is."""
    health, now = FRESH, NOW
    for pause, tally, chance in steps:
        now += pause
        before, health = health, next_health(health, tally, now=now, chance=chance)
        assert (health.failing_since is None) == (health.probe_at is None)
        if health.failing_since is None:
            assert health.probes == 0
            assert before.failing_since is None or tally.probe, "only a probe closes it"
        elif health.probe_at != before.probe_at:
            longest = PROBE_WAITS[-1] * (1 + JITTER)
            assert now + PROBE_WAITS[0] <= health.probe_at <= now + max(longest, tally.retry_after or timedelta(0))
        if before.failing_since is None and health.failing_since is not None:
            assert tally.failed, "a success opens no breaker"
            assert health.failed >= MIN_FAILURES
        if before.failing_since is not None and health.failing_since is not None:
            assert health.failing_since == before.failing_since


@given(st.lists(TALLIES, min_size=1))
def test_tallies_can_be_added_up_before_they_are_applied(tallies):
    total = sum(tallies[1:], tallies[0])
    assert total.succeeded == sum(tally.succeeded for tally in tallies)
    assert total.failed == sum(tally.failed for tally in tallies)
    assert total.retry_after == max(
        (tally.retry_after for tally in tallies if tally.retry_after is not None), default=None
    )
    assert total.is_urgent == any(tally.is_urgent for tally in tallies)
