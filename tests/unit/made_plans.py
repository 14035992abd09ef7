"""Plans of tests: the one after an attempt, of a connection with nothing remarkable but what a test says."""

from datetime import UTC, datetime

from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import next_plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import RefreshOutcome

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)  # a Monday


def plan_after(outcome: RefreshOutcome = RefreshOutcome.RENEWED, **given_facts: object) -> Plan | None:
    facts: dict = {
        "now": NOW,
        "outcome": outcome,
        "expires_at": None,
        "previous_expires_at": None,
        "consecutive_failures": 0,
        "retry_after": None,
        "auth_mode": "OAUTH2",
        "identity": "default/google/1",
        "policy": RefreshPolicy(),
    }
    return next_plan(**(facts | given_facts))
