"""The benchmark's simulation comes to the same decisions with plans in memory and in the database."""

from dataclasses import replace

import pytest

from app.domain.states import RefreshOutcome
from bench import refresh_database
from bench.refresh_lives import COHORTS, NANGO, WAYLINK, Outage, population
from bench.refresh_ninety_days import differing
from bench.refresh_simulation import in_memory
from bench.refresh_world import SimulatedWorld

OUTAGES = (Outage("zendesk", 0.4, 0.6), Outage(NANGO, 0.65, 0.67), Outage(WAYLINK, 0.7, 0.75))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_decisions_are_the_same(kind, request, tmp_path):
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else f"sqlite:///{tmp_path / 'refresh.db'}"
    [zendesk] = [replace(each, sampled=8, count=8) for each in COHORTS if each.name == "zendesk"]
    others = population(20, cohorts=[each for each in COHORTS if each.name not in {"zendesk", "hubspot", "xero"}])

    def world():
        return SimulatedWorld(3, (zendesk, *others), OUTAGES, 0.2, 0.9)

    decisions = []
    simulation, _ = in_memory(world(), per_minute=10_000, decisions=decisions)
    simulation.run(simulation.world.ends_at)
    found = refresh_database.decisions(world(), per_minute=10_000, url=url)
    seen = {each.outcome for each in found}
    assert {RefreshOutcome.RENEWED, RefreshOutcome.FAILED, RefreshOutcome.NANGO_DOWN} <= seen
    assert differing(decisions, found) == 0
    assert simulation.store.watch.pauses == {}
