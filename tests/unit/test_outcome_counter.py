"""Refreshes are counted by integration, and however many integrations there are, of a bounded number by name."""

import pytest
from prometheus_client import REGISTRY

from app.domain.refreshing.facts import IntegrationKey
from app.domain.states import RefreshOutcome
from app.services.refreshing import outcome_counter
from app.services.refreshing.outcome_counter import count_refresh


def value(environment: str, integration: str) -> float:
    named = {"environment": environment, "integration": integration, "outcome": "renewed"}
    return REGISTRY.get_sample_value("waylink_refreshes_total", named) or 0


def test_the_first_integrations_are_named_and_all_others_are_counted_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outcome_counter, "MOST", 2)
    monkeypatch.setattr(outcome_counter, "_named", set())
    before = value("other", "other")
    for integration in ("counted-1", "counted-2", "counted-3", "counted-4", "counted-1"):
        count_refresh(IntegrationKey("prod", integration), RefreshOutcome.RENEWED)
    assert [value("prod", f"counted-{number}") for number in range(1, 5)] == [2, 1, 0, 0]
    assert value("other", "other") - before == 2
