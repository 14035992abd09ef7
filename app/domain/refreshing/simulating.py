"""Two forecasts of the same connections, under the policies in force and under others, side by side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from app.domain.refreshing.carrying import Standing
from app.domain.refreshing.forecasting import DAYS, Forecast, Tally
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.replanning import OpenPlan, facts_under, plan_under

PolicyOf = Callable[[Standing], RefreshPolicy | None]


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """Calls and forced calls per day, as the mean of the days foreseen; the busiest minute of the next day; the
    connections whose token or grant lapses before their turn.
    """

    calls: float
    forced: float
    busiest: float
    lapses: float


@dataclass(frozen=True, slots=True)
class SimulatedIntegration:
    """An integration's figures under both policies; of all integrations where its name is empty."""

    integration: str
    connections: float
    before: PolicyFigures
    after: PolicyFigures

    @property
    def differs(self) -> bool:
        return self.before != self.after


def followed(standings: Sequence[Standing], before: PolicyOf, after: PolicyOf, *, now: datetime) -> list[Standing]:
    """The connections as they are once their plans follow the other policies."""
    return [_followed(one, before(one), after(one), now) for one in standings]


def _followed(one: Standing, before: RefreshPolicy | None, after: RefreshPolicy | None, now: datetime) -> Standing:
    if after is None or after == before:
        return one
    facts, opened = facts_under(after, one.facts), None
    if one.due_at is not None and one.planned_at is not None:
        plan = Plan(one.due_at, one.forced, reason="")
        opened = OpenPlan(plan=plan, next_at=one.due_at, made_at=one.planned_at, failures=one.failures, waits=one.waits)
    found = plan_under(after, facts, opened, identity=one.ref.hex, now=now)
    due_at, forced = (found.due_at, found.forced) if found else (None, False)
    return replace(one, facts=facts, due_at=due_at, forced=forced)


def side_by_side(before: Forecast, after: Forecast) -> list[SimulatedIntegration]:
    """The figures by integration, those of all at the end."""
    found = [
        SimulatedIntegration(one.integration, one.connections, _figures([one]), _figures([other]))
        for one, other in zip(before.tallies, after.tallies, strict=True)
    ]
    whole = SimulatedIntegration("", before.connections, _figures(before.tallies), _figures(after.tallies))
    return [*found, whole]


def _figures(tallies: Sequence[Tally]) -> PolicyFigures:
    minutes = [sum(calls) for calls in zip(*(tally.minutes for tally in tallies), strict=True)]
    return PolicyFigures(
        calls=sum(tally.calls for tally in tallies) / DAYS,
        forced=sum(tally.forced for tally in tallies) / DAYS,
        busiest=max(minutes, default=0.0),
        lapses=sum(count for tally in tallies for count, _ in tally.lapses.values()),
    )
