"""Simulations of refresh policies before they are applied. Nothing is changed.

Reads in a short transaction of its own for each environment.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, partial
from typing import Any

from app.db.engine import Database
from app.db.read import refresh_figures
from app.domain.refreshing.carrying import Standing
from app.domain.refreshing.policy import RefreshPolicies, RefreshPolicy
from app.domain.refreshing.simulating import PolicyFigures, SimulatedIntegration, followed, side_by_side
from app.services.policy import Policy
from app.services.refreshing.forecasts import CARRIED, forecast_of, paused_by_hand


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The present connections of an environment under both policies: by integration, and at the end all.

    carried: those that were carried forward, each for `weight` of them.
    """

    environment: str
    connections: int
    carried: int
    weight: float
    found: list[SimulatedIntegration]


def simulate(
    database: Database,
    policy: Policy,
    before: RefreshPolicies,
    after: RefreshPolicies,
    *,
    now: datetime,
    environment: str | None = None,
    most: int = CARRIED,
) -> list[Simulation]:
    """Carry the connections of the environment, or of all with an API key, forward under both policies.

    most: connections of one environment that are carried forward.
    """
    wanted = [name for name, known in sorted(policy.environments.items()) if known.has_api]
    result = []
    for name in (name for name in wanted if environment in {None, name}):
        with database.read() as session:
            people = refresh_figures.population(session, name, most=most)
            held = paused_by_hand(session, name)
        kinds = [cache(partial(policies.of, name)) for policies in (before, after)]
        changed = followed(people.standings, *(partial(_policy_of, of) for of in kinds), now=now)
        both = [
            forecast_of(people, before, name, now=now, paused=held),
            forecast_of(replace(people, standings=changed), after, name, now=now, paused=held),
        ]
        result.append(
            Simulation(
                environment=name,
                connections=people.connections,
                carried=len(people.standings),
                weight=people.weight,
                found=side_by_side(*both),
            )
        )
    return result


def _policy_of(of: Callable[[str, str | None], RefreshPolicy | None], one: Standing) -> RefreshPolicy | None:
    return of(one.integration, one.provider)


def shown(simulation: Simulation) -> dict[str, Any]:
    """A simulation as commands and the API show it. Counts are rounded."""
    *integrations, whole = simulation.found
    return {
        "environment": simulation.environment,
        "connections": simulation.connections,
        "carried": simulation.carried,
        "weight": round(simulation.weight, 2),
        "integrations": [
            {"integration": one.integration, "connections": round(one.connections), **_both(one)}
            for one in integrations
        ],
        "total": _both(whole),
    }


def _both(one: SimulatedIntegration) -> dict[str, Any]:
    return {"before": _figures(one.before), "after": _figures(one.after)}


def _figures(figures: PolicyFigures) -> dict[str, Any]:
    return {
        "calls_per_day": round(figures.calls, 1),
        "forced_per_day": round(figures.forced, 1),
        "busiest_minute": round(figures.busiest),
        "lapses": round(figures.lapses),
    }
