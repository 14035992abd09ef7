"""100,000 tokens of one burst under a request budget that cannot keep all of them fresh."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.domain.refreshing.policy import PolicyPart, RefreshPriority
from app.sandbox.grants import TokenRules
from bench.refresh_keeping import MemoryKeeper
from bench.refresh_lives import DAY, HOUR, Cohort
from bench.refresh_simulation import in_memory
from bench.refresh_summary import OURS_TO_LOSE, count, fates
from bench.refresh_world import SimulatedWorld

DAYS = 2.5
EACH_FOR = 20  # connections that each one carried out stands for: few beside what a minute allows
RULES = TokenRules(access_life=HOUR, idle_limit=DAY)


@dataclass(frozen=True, slots=True)
class Scarcity:
    """lost: grants. fresh: the share of time without an expired token, by priority.

    most_falls: how often a single connection fell back within a day, counted from the beginning.
    """

    lost: float
    fresh: Mapping[RefreshPriority, float]
    most_falls: int


def scarcity(number: int, *, per_minute: int, days: float = DAYS, each_for: int = EACH_FOR) -> Scarcity:
    """So many connections, a third of each priority, whose hourly tokens were issued at once."""
    each = number // len(RefreshPriority)
    cohorts = [
        Cohort(
            name=priority,
            provider="a-provider",
            count=each,
            sampled=each // each_for,
            rules=RULES,
            policy=PolicyPart(priority=priority, idle_limit=timedelta(seconds=DAY)),
        )
        for priority in RefreshPriority
    ]
    world = SimulatedWorld(1, cohorts, (), 0.0, days, created_within=timedelta(0))
    simulation, store = in_memory(world, per_minute=per_minute)
    weights = {cohort.name: cohort.weight for cohort in cohorts}
    keeper = MemoryKeeper(store, simulation.known_policy, weights, per_minute)
    simulation.keep = keeper.keep
    simulation.run(world.ends_at)
    found = fates(world)
    fresh = {priority: 1 - (found[priority].expired or 0.0) for priority in RefreshPriority}
    return Scarcity(count(found, OURS_TO_LOSE), fresh, max(keeper.falls.values(), default=0))
