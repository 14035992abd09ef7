"""Warnings before Nango's breaker opens, and a notice when it probably has."""

from collections import Counter

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.domain.nango_breaker import Breaker, breaker_state, counts
from app.web.sender_health import SenderHealth

BAD = ("default", "bad_signature")
OVERLOAD = ("default", "overload")


class Watched:
    """Refusals at given moments, and what was said about them."""

    def __init__(self, *environments: str) -> None:
        self.health, self.totals = SenderHealth(environments), Counter()

    def at(self, now: float, *refused: tuple[str, str]) -> list[dict]:
        self.totals = self.totals + Counter(refused)
        with capture_logs() as said:
            self.health.update(self.totals, now)
        return said


@pytest.fixture
def end_process_on_failure() -> Watched:
    return Watched("default", "other")


@pytest.mark.parametrize(
    ("failures", "state"),
    [(0, "closed"), (2, "closed"), (3, "near"), (5, "near"), (6, "open_likely"), (1000, "open_likely")],
)
def test_the_sixth_failure_opens_the_breaker_and_the_third_warns(failures: int, state: str) -> None:
    assert breaker_state(failures) is Breaker(state)


def test_only_what_nango_may_have_sent_to_a_url_of_ours_counts() -> None:
    assert counts("default", "bad_signature")
    assert not counts("", "unknown_environment")
    assert not counts("default", "method")


def test_few_failures_are_not_spoken_of(end_process_on_failure: Watched) -> None:
    assert end_process_on_failure.at(0, BAD, BAD) == []


def test_the_third_failure_warns_with_its_causes(end_process_on_failure: Watched) -> None:
    end_process_on_failure.at(0, BAD, BAD)
    [said] = end_process_on_failure.at(9, OVERLOAD)
    assert (said["event"], said["log_level"]) == ("nango_breaker_near", "warning")
    assert (said["environment"], said["failures"]) == ("default", 3)
    assert said["causes"] == {"bad_signature": 2, "overload": 1}


def test_the_sixth_failure_is_an_error_that_says_what_to_do(end_process_on_failure: Watched) -> None:
    [said] = end_process_on_failure.at(0, *[OVERLOAD] * 6)
    assert (said["event"], said["log_level"]) == ("nango_breaker_open_likely", "error")
    assert "reconcile" in said["then"]


def test_a_burst_between_two_checks_counts_even_at_the_start(end_process_on_failure: Watched) -> None:
    assert end_process_on_failure.at(1000, BAD, BAD, BAD)


def test_failures_more_than_ten_seconds_apart_are_not_added_up(end_process_on_failure: Watched) -> None:
    for second in range(0, 60, 6):
        assert end_process_on_failure.at(second, BAD) == []


def test_the_window_slides(end_process_on_failure: Watched) -> None:
    end_process_on_failure.at(5, BAD, BAD)
    assert end_process_on_failure.at(14, BAD)
    assert end_process_on_failure.at(40, BAD, BAD) == []


def test_it_is_said_once_per_window_unless_it_gets_worse(end_process_on_failure: Watched) -> None:
    assert [len(end_process_on_failure.at(second, *[BAD] * 3)) for second in range(3)] == [1, 1, 0], (
        "near, open, nothing new"
    )
    said = [line["event"] for second in range(3, 30) for line in end_process_on_failure.at(second, BAD)]
    assert said == ["nango_breaker_open_likely"] * 2


def test_environments_do_not_mix(end_process_on_failure: Watched) -> None:
    assert end_process_on_failure.at(0, BAD, BAD, ("other", "bad_signature"), ("other", "overload")) == []


def test_the_gauge_shows_the_window_and_falls_back(end_process_on_failure: Watched) -> None:
    def shown(environment: str) -> float | None:
        return REGISTRY.get_sample_value("waylink_sender_failures", {"environment": environment})

    end_process_on_failure.at(0, BAD, BAD, ("", "unknown_environment"), ("default", "method"))
    assert (shown("default"), shown("other"), shown("")) == (2, 0, None)
    end_process_on_failure.at(20)
    assert shown("default") == 0
