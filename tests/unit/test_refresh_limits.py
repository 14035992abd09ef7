"""Limits of an integration: how many refreshes begin, and when those that are held have their turns."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.refreshing.limits import Turns, admit, is_limited
from app.domain.refreshing.policy import RefreshPolicy

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def seconds(moments):
    return [(moment - NOW) / SECOND for moment in moments]


def test_a_policy_has_no_limit_unless_it_says_one():
    assert not is_limited(RefreshPolicy())
    assert is_limited(RefreshPolicy(concurrency=1))
    assert is_limited(RefreshPolicy(per_minute=1))


@pytest.mark.parametrize(
    ("policy", "running", "wanted", "count", "held"),
    [
        (RefreshPolicy(concurrency=4), 0, 3, 3, []),
        (RefreshPolicy(concurrency=4), 1, 5, 3, [0.25, 0.5]),
        (RefreshPolicy(concurrency=4), 9, 2, 0, [0.25, 0.5]),
        (RefreshPolicy(per_minute=60), 50, 11, 11, []),
        (RefreshPolicy(per_minute=60), 0, 14, 11, [1, 2, 3]),
        (RefreshPolicy(per_minute=1), 0, 3, 1, [60, 120]),
        (RefreshPolicy(concurrency=2, per_minute=60), 0, 4, 2, [1, 2]),
    ],
)
def test_what_begins_and_when_the_others_have_their_turns(policy, running, wanted, count, held):
    found = admit(policy, None, running=running, wanted=wanted, now=NOW)
    assert (found.count, seconds(found.held_until)) == (count, held)


def test_further_ones_have_their_turns_behind_those_that_were_held_before():
    policy = RefreshPolicy(per_minute=60)
    first = admit(policy, None, running=0, wanted=111, now=NOW)
    second = admit(policy, first.turns, running=0, wanted=2, now=NOW)
    assert second.count == 0
    assert seconds(second.held_until) == [101, 102]


def test_one_that_was_held_begins_when_its_turn_comes():
    policy = RefreshPolicy(per_minute=60)
    first = admit(policy, None, running=0, wanted=30, now=NOW)
    turns = first.turns
    for turn in first.held_until:
        found = admit(policy, turns, running=0, wanted=1, now=turn)
        assert found.count == 1
        turns = found.turns


@given(
    st.integers(1, 200),
    st.lists(st.tuples(st.floats(0, 120), st.integers(1, 300)), max_size=30),
)
def test_no_minute_begins_more_than_the_limit_and_a_burst(per_minute, claims):
    policy, turns, now, begun = RefreshPolicy(per_minute=per_minute), None, NOW, []
    for wait, wanted in claims:
        now += timedelta(seconds=wait)
        found = admit(policy, turns, running=0, wanted=wanted, now=now)
        turns = found.turns
        begun += [now] * found.count
        assert len(found.held_until) == wanted - found.count
        assert all(turn > now for turn in found.held_until)
        assert list(found.held_until) == sorted(set(found.held_until))
    for start in begun:
        within = sum(start <= moment < start + timedelta(minutes=1) for moment in begun)
        assert within <= per_minute + per_minute // 6 + 1


def test_a_pause_of_an_hour_saves_nothing_up():
    policy = RefreshPolicy(per_minute=60)
    turns = Turns(NOW - timedelta(hours=1), NOW - timedelta(hours=1))
    assert admit(policy, turns, running=0, wanted=100, now=NOW).count == 11
