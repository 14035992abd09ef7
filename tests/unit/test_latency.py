"""Times of the open-loop bench: from when a webhook was due, not from when it was sent."""

import math

import pytest

from bench.latency import Sending, measured, percentile


def sending(*, answered: list[float]) -> Sending:
    """Four webhooks, one each second from 100 on."""
    due = [100.0, 101.0, 102.0, 103.0]
    return Sending(["a", "b", "c", "d"], due, begun=[101.0, 101.0, 102.0, 103.0], answered=answered)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile([*range(100, 0, -1)], share) == value


def test_latency_counts_from_the_time_a_webhook_was_due() -> None:
    jobs = {"a": 102.5, "b": 103.0, "c": 103.5, "d": 104.0}
    found = measured(1, sending(answered=[101.5, 101.5, 102.5, 103.5]), jobs, skip=0)
    assert found.to_202 == [1.5, 0.5, 0.5, 0.5]
    assert found.to_job == [2.5, 2.0, 1.5, 1.0]
    assert found.reached == 1.0
    assert found.sent_late == 1.0


def test_what_never_came_is_infinitely_late_and_lowers_the_rate_that_was_reached() -> None:
    found = measured(1, sending(answered=[101.0, math.inf, 103.0, 104.0]), {"c": 104.0, "d": 106.0}, skip=1)
    assert found.to_202 == [math.inf, 1.0, 1.0]
    assert found.to_job == [math.inf, 2.0, 3.0]
    assert found.reached == 2 / 5
