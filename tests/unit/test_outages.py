"""Promise 8: an integration is paused while its provider is down, and only then."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.refreshing import outages
from app.domain.refreshing.outages import FEWEST, LONGEST_PROBE, WINDOW, Pause, PauseCause, Tally, Window
from app.domain.states import RefreshOutcome as Outcome

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FAILED, RENEWED, NOTHING = Tally(failed=1), Tally(renewed=1), Tally()


def ago(**span):
    return NOW - timedelta(**span)


@pytest.mark.parametrize(
    ("outcome", "was_forced", "failing_before", "expected"),
    [
        (Outcome.FAILED, False, False, FAILED),
        (Outcome.BACKING_OFF, False, False, FAILED),
        (Outcome.PROVIDER_DOWN, False, False, FAILED),
        (Outcome.FAILED, True, True, NOTHING),  # that one connection was failing before says nothing new
        (Outcome.RENEWED, False, False, RENEWED),
        (Outcome.RENEWED, False, True, RENEWED),
        (Outcome.FIRST_SEEN, True, False, RENEWED),
        (Outcome.NO_EXPIRY, True, False, RENEWED),
        # The provider was not asked, or that is not known.
        (Outcome.FIRST_SEEN, False, False, NOTHING),
        (Outcome.UNCHANGED, False, False, NOTHING),
        (Outcome.NOT_REFRESHABLE, True, False, NOTHING),
        (Outcome.NO_EXPIRY, False, False, NOTHING),
        # Nango alone: its own outage and its own giving up are no provider's.
        (Outcome.NANGO_DOWN, False, False, NOTHING),
        (Outcome.RATE_LIMITED, False, False, NOTHING),
        (Outcome.WAITED, False, False, NOTHING),
        (Outcome.EXHAUSTED, False, False, NOTHING),
        (Outcome.GONE, False, False, NOTHING),
        (Outcome.SUPERSEDED, False, False, NOTHING),
        (Outcome.PAUSED, False, False, NOTHING),
    ],
)
def test_only_answers_of_the_provider_count(outcome, was_forced, failing_before, expected):
    assert outages.tally(outcome, was_forced=was_forced, failing_before=failing_before) == expected


@pytest.mark.parametrize(
    ("window", "is_outage"),
    [
        (Window(ago(minutes=5), Tally(failed=FEWEST)), True),
        (Window(ago(minutes=5), Tally(failed=FEWEST - 1)), False),  # too few to tell
        (Window(ago(minutes=5), Tally(renewed=FEWEST, failed=FEWEST)), True),
        (Window(ago(minutes=5), Tally(renewed=FEWEST + 1, failed=FEWEST)), False),
        (Window(ago(minutes=5), Tally(renewed=40), former=Tally(failed=40)), False),  # 20 of 60
        (Window(ago(minutes=5), Tally(failed=20), former=Tally(renewed=30)), True),  # 20 of 35
        (Window(ago(minutes=1), Tally(failed=5), former=Tally(renewed=30)), False),  # 5 of 32
        (Window(ago(minutes=20), former=Tally(failed=100)), False),  # long ago
    ],
)
def test_an_outage_is_half_of_the_connections_that_failed_or_were_renewed_within_a_window(window, is_outage):
    assert outages.share(window, now=NOW).is_outage is is_outage


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(0), Window(NOW, Tally(4, 6))),
        (WINDOW - timedelta(seconds=1), Window(NOW - WINDOW + timedelta(seconds=1), Tally(4, 6))),
        (WINDOW, Window(NOW, Tally(1, 1), former=Tally(3, 5))),
        (2 * WINDOW, Window(NOW, Tally(1, 1))),
    ],
)
def test_results_are_counted_in_the_window_that_they_fall_into(age, expected):
    assert outages.counted(Window(NOW - age, Tally(3, 5)), Tally(1, 1), now=NOW) == expected
    assert outages.counted(None, Tally(1, 1), now=NOW) == Window(NOW, Tally(1, 1))


def test_probes_are_rarer_the_longer_the_outage_lasts():
    pause, now, waits = outages.begun(now=NOW), NOW, []
    assert not outages.may_probe(pause, now=now)
    for _ in range(8):
        waits.append(pause.probe_at - now)
        now = pause.probe_at
        assert outages.may_probe(pause, now=now)
        pause = outages.probing(pause, now=now)
        assert not outages.may_probe(pause, now=now)
    assert [wait.total_seconds() / 60 for wait in waits] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_person_s_pause_is_never_probed():
    pause = Pause(cause=PauseCause.OPERATOR, paused_at=ago(days=30))
    assert not outages.may_probe(pause, now=NOW)
    assert outages.held_until(pause, now=NOW, turn=0.5) > NOW


@pytest.mark.parametrize("probes", [0, 3, 20])
def test_held_plans_are_spread_from_the_next_probe_on(probes):
    pause = Pause(cause=PauseCause.OUTAGE, paused_at=NOW, probes=probes, probe_at=NOW + timedelta(minutes=7))
    first, last = (outages.held_until(pause, now=NOW, turn=turn) for turn in (0.0, 0.999))
    assert first == pause.probe_at
    assert timedelta(seconds=50) < last - first < LONGEST_PROBE
    late = NOW + timedelta(hours=3)
    assert outages.held_until(pause, now=late, turn=0.0) == late  # no worker ran at the probe's time


@pytest.mark.parametrize(("held", "minutes"), [(0, 2), (1, 2), (5_000, 10), (10_000_000, 30)])
def test_the_release_is_spread_by_the_number_of_held_plans(held, minutes):
    assert outages.release_over(held) == timedelta(minutes=minutes)
