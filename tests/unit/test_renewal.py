"""Facts on a renewal: its state, its window, and why there is none."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import Deadlines, next_plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.renewal import OVERDUE, Window, ask_again_in, plan_state, renewal_window, why_no_plan
from app.domain.states import ConnectionStatus, RefreshOutcome, RefreshState

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
POLICY = RefreshPolicy()


@pytest.mark.parametrize(
    ("next_at", "finished_at", "outcome", "state"),
    [
        (NOW + SECOND, None, None, RefreshState.OPEN),
        (NOW + SECOND, None, RefreshOutcome.RATE_LIMITED, RefreshState.OPEN),
        (NOW, None, None, RefreshState.DUE),
        (NOW - OVERDUE, None, None, RefreshState.DUE),
        (NOW - OVERDUE - SECOND, None, RefreshOutcome.NANGO_DOWN, RefreshState.OVERDUE),
        (NOW - DAY, None, RefreshOutcome.PAUSED, RefreshState.PAUSED),
        (NOW - DAY, NOW - HOUR, RefreshOutcome.RENEWED, RefreshState.FINISHED),
    ],
)
def test_a_plan_is_due_from_its_moment_on_and_overdue_a_while_later(next_at, finished_at, outcome, state):
    assert plan_state(next_at=next_at, finished_at=finished_at, outcome=outcome, now=NOW) is state


def window(plan, **changes):
    facts = {"made_at": NOW, "expires_at": None, "grant_at": None, "renewed_at": None}
    return renewal_window(plan, POLICY, **(facts | changes))


@pytest.mark.parametrize("slot", [0, 1, 7, 1234])
@pytest.mark.parametrize("life", [timedelta(minutes=30), HOUR, 8 * HOUR, 30 * DAY])
def test_the_window_of_a_plain_renewal_holds_the_moment_that_was_planned(life, slot):
    expires_at = NOW + life
    plan = next_plan(
        now=NOW, outcome=RefreshOutcome.RENEWED, expires_at=expires_at, previous_expires_at=NOW - DAY,
        consecutive_failures=0, retry_after=None, auth_mode="OAUTH2", identity="c", policy=POLICY, slot=slot,
    )  # fmt: skip
    found = window(plan, expires_at=expires_at)
    assert found == Window(expires_at - timedelta(minutes=14), expires_at - timedelta(minutes=10))
    assert found.begins <= plan.due_at <= found.ends


@pytest.mark.parametrize("slot", [0, 1, 7, 1234])
def test_the_window_of_a_grant_kept_alive_is_that_of_its_deadline(slot):
    grant_at, renewed_at = NOW + 30 * DAY, NOW
    plan = next_plan(
        now=NOW, outcome=RefreshOutcome.NO_EXPIRY, expires_at=None, previous_expires_at=None, consecutive_failures=0,
        retry_after=None, auth_mode="OAUTH2", identity="c", policy=POLICY, slot=slot,
        deadlines=Deadlines(grant_at=grant_at, renewed_at=renewed_at),
    )  # fmt: skip
    found = window(plan, grant_at=grant_at, renewed_at=renewed_at)
    assert found == Window(grant_at - 7 * DAY, grant_at - 3.5 * DAY)
    assert found.begins <= plan.due_at <= found.ends


def test_a_moment_that_no_deadline_leads_to_is_its_own_window():
    plan = Plan(NOW + timedelta(minutes=2), forced=False, reason="after a failed refresh")
    assert window(plan, expires_at=NOW + HOUR, grant_at=NOW + DAY) == Window(plan.due_at, plan.due_at)


@pytest.mark.parametrize(
    ("status", "mode", "mark", "words"),
    [
        (ConnectionStatus.DELETED, "OAUTH2", None, "deleted"),
        (ConnectionStatus.NEEDS_RECONNECT, "OAUTH2", None, "has to reconnect"),
        (ConnectionStatus.UNCONFIRMED, "OAUTH2", None, "not shown"),
        (ConnectionStatus.ACTIVE, "API_KEY", None, "API_KEY"),
        (ConnectionStatus.ACTIVE, "OAUTH2", "no refresh token", "no refresh token"),
        (ConnectionStatus.ACTIVE, "OAUTH2", None, "policy"),
    ],
)
def test_without_a_plan_the_reason_is_told(status, mode, mark, words):
    assert words in why_no_plan(status, mode, mark)


@pytest.mark.parametrize(
    ("next_at", "wait"),
    [(None, 6 * HOUR), (NOW - DAY, timedelta(minutes=1)), (NOW + HOUR, HOUR), (NOW + DAY, 6 * HOUR)],
)
def test_who_asks_for_a_window_is_told_when_to_ask_again(next_at, wait):
    assert ask_again_in(next_at, now=NOW) == wait
