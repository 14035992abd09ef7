"""Two forecasts of the same connections, under the policies in force and under others, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.refreshing.forecasting import DAYS, Forecast, Tally


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
