import inspect
from datetime import timedelta

import pytest

from app import deadlines
from app.deadlines import DATABASE_SHARE, assert_nested
from app.runtime.supervisor import Supervisor
from app.web.bodies import READ_SECONDS
from app.web.group_commit import HOLD_SECONDS, OVERDUE_SECONDS
from app.web.server import GRACE_SECONDS, STOP_SECONDS
from app.web.webhooks import SLOW_REFUSAL_SECONDS


def test_the_deadlines_as_shipped_nest() -> None:
    assert_nested()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONFIRM_DEADLINE", deadlines.EVENT_LEASE - DATABASE_SHARE),
        ("PUBLISH_DEADLINE", deadlines.JOB_LEASE - DATABASE_SHARE),
        ("REFRESH_DEADLINE", deadlines.REFRESH_LEASE - DATABASE_SHARE),
        ("EVENT_LEASE", deadlines.VISIBILITY_TIMEOUT),
        ("JOB_LEASE", deadlines.VISIBILITY_TIMEOUT),
        ("REFRESH_LEASE", deadlines.VISIBILITY_TIMEOUT),
        ("VISIBILITY_TIMEOUT", timedelta(seconds=60)),
        ("DATABASE_SHARE", timedelta(minutes=2)),
    ],
)
def test_deadlines_that_do_not_nest_stop_a_worker(monkeypatch, name: str, value: timedelta) -> None:
    monkeypatch.setattr(deadlines, name, value)
    with pytest.raises(AssertionError, match="do not nest"):
        assert_nested()


@pytest.mark.parametrize("wait", [HOLD_SECONDS, READ_SECONDS])
def test_nango_gets_its_503_before_it_gives_up(wait: float) -> None:
    nango_waits = 20  # seconds (Nango contract: Delivery and retries)
    assert wait + SLOW_REFUSAL_SECONDS < nango_waits


def test_held_requests_are_answered_before_the_end_and_the_end_comes_before_the_kill() -> None:
    killed_after = inspect.signature(Supervisor).parameters["grace"].default
    assert HOLD_SECONDS + OVERDUE_SECONDS < GRACE_SECONDS < STOP_SECONDS
    assert killed_after > STOP_SECONDS + 1  # the grace of several web processes, within that of `waylink up`
