"""Many tokens issued in one burst: how evenly their renewals are spread, also after a restart."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.refreshing.policy import RefreshPolicy
from app.sandbox.grants import TokenRules
from bench.refresh_lives import HOUR, Cohort
from bench.refresh_simulation import in_memory
from bench.refresh_world import BEGINS, SimulatedConnection, SimulatedWorld

_LIFE = timedelta(seconds=HOUR)
_AWAY = (BEGINS + timedelta(minutes=15), BEGINS + timedelta(minutes=25))
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True)
class Burst:
    """busiest: minute of the window, by its mean. moments: of the first renewal, by connection."""

    busiest: float
    moments: Mapping[str, datetime]


def burst(count: int, *, with_restart: bool) -> Burst:
    """So many tokens that live an hour and were issued at once. with_restart: Waylink is stopped for ten minutes."""
    rules = TokenRules(access_life=HOUR)
    cohort = Cohort(name="burst", provider="a-provider", count=count, sampled=count, rules=rules)
    world = SimulatedWorld(1, (cohort,), (), 0.0, 1.0, created_within=timedelta(0))
    simulation, store = in_memory(world, per_minute=_NO_LIMIT, per_second=_NO_LIMIT)
    moments: dict[str, datetime] = {}

    def seen(connection: SimulatedConnection, now: datetime) -> None:
        moments.setdefault(connection.name, now)

    simulation.nango.seen = seen
    if with_restart:
        simulation.run(_AWAY[0])
        again = store.restarted()
        simulation.store, simulation.next_at = again, again.next_at
        simulation.start()
        simulation.clock.now = _AWAY[1]
    simulation.run(BEGINS + _LIFE)
    return Burst(_busiest(moments), moments)


def _busiest(moments: Mapping[str, datetime]) -> float:
    policy = RefreshPolicy()
    lead = policy.lead(_LIFE)
    minutes = policy.width(lead) / timedelta(minutes=1)
    begins = BEGINS + _LIFE - lead
    counted = Counter(int((at - begins) / timedelta(minutes=1)) for at in moments.values())
    return max(counted.values()) / (len(moments) / minutes)
