"""Forecasts of refreshes: made from the stored connections, kept for a while, and compared with what happened.

Reads and writes in short transactions of its own.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import refresh_forecasts as rows
from app.db import refresh_pauses
from app.db.engine import Database
from app.db.read import refresh_figures
from app.db.read.refresh_figures import Population
from app.domain.refreshing import budget_outlook
from app.domain.refreshing.budget_outlook import BudgetOutlook, budget_per_minute
from app.domain.refreshing.forecasting import HOURS, Forecast, forecast, hour_of
from app.domain.refreshing.outages import PauseCause
from app.domain.refreshing.policy import RefreshPolicies
from app.services.policy import Policy
from app.telemetry import get_logger

CARRIED: Final = 50_000  # connections that are carried forward; of more, these stand for the others
CARRIED_BESIDE: Final = 20_000  # the same in a process that has other work to do
_HOUR: Final = timedelta(hours=1)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A stored forecast and what happened, in those of its hours that have ended."""

    made_at: datetime
    hours: list[tuple[datetime, int, int]]  # when it began, forecast, happened

    @property
    def expected(self) -> int:
        return sum(expected for _, expected, _ in self.hours)

    @property
    def happened(self) -> int:
        return sum(happened for _, _, happened in self.hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentForecast:
    """environments: those that share the account, whose calls `budget` holds together. limit: of the account."""

    environment: str
    account: str
    environments: tuple[str, ...]
    limit: int
    found: Forecast
    budget: BudgetOutlook
    past: Comparison | None


def forecasts(
    database: Database,
    policy: Policy,
    limit_of: Callable[[str], int],
    *,
    now: datetime,
    environment: str | None = None,
    most: int = CARRIED,
) -> list[EnvironmentForecast]:
    """The forecasts of the environment, or of all that have an API key.

    limit_of: an account's requests per minute. most: connections of one environment that are carried forward.
    """
    accounts = {name: known.account for name, known in policy.environments.items() if known.has_api}
    wanted = [name for name in sorted(accounts) if environment in {None, name}]
    needed = {name for name in accounts if accounts[name] in {accounts[one] for one in wanted}}
    found: dict[str, Forecast] = {}
    for name in sorted(needed):
        with database.read() as session:
            people = refresh_figures.population(session, name, most=most)
            held = paused_by_hand(session, name)
        budget = budget_per_minute(limit_of(accounts[name]))
        found[name] = forecast_of(people, policy.refresh, name, now=now, budget=budget, paused=held)
    result = []
    for name in wanted:
        sharing = tuple(other for other in sorted(needed) if accounts[other] == accounts[name])
        limit = limit_of(accounts[name])
        with database.read() as session:
            past = compared(session, name, now=now)
        result.append(
            EnvironmentForecast(
                environment=name,
                account=accounts[name],
                environments=sharing,
                limit=limit,
                found=found[name],
                budget=budget_outlook.outlook(_together([found[other] for other in sharing]), limit),
                past=past,
            )
        )
    return result


def forecast_of(
    people: Population,
    policies: RefreshPolicies,
    environment: str,
    *,
    now: datetime,
    budget: float | None = None,
    paused: Iterable[str] = (),
) -> Forecast:
    """The forecast for these connections under these policies."""
    kinds = {(standing.integration, standing.provider) for standing in people.standings}
    return forecast(
        people.standings,
        {kind: policies.of(environment, *kind) for kind in kinds},
        connections=people.connections,
        weight=people.weight,
        now=now,
        budget=budget,
        paused=paused,
    )


def compared(session: Session, environment: str, *, now: datetime) -> Comparison | None:
    """The newest forecast whose day has ended, else the newest one of which an hour has; None: there is none."""
    stored = rows.newest(session, environment, before=now - HOURS * _HOUR) or rows.newest(
        session, environment, before=now - _HOUR
    )
    if stored is None:
        return None
    begun = [stored.starts_at + number * _HOUR for number in range(len(stored.hours))]
    ended = [hour for hour in begun if hour + _HOUR <= now]
    happened = refresh_figures.finished(session, environment, ended)
    hours = [(hour, int(expected), count) for hour, expected, count in zip(ended, stored.hours, happened, strict=False)]
    return Comparison(made_at=stored.made_at, hours=hours)


def store(database: Database, policy: Policy, tables: dict[str, Any], *, clock: Callable[[], datetime]) -> int:
    """Store the day's forecast of each environment, unless it is there. Returns the number of stored ones.

    tables: the refresh policies in force, which are noted beside it.
    """
    now = clock()
    day = now.date().isoformat()
    with database.read() as session:
        there = rows.days_kept(session, day)
    stored = 0
    for name in (name for name, known in policy.environments.items() if known.has_api):
        if name in there:
            if there[name] != tables:
                with database.write() as session:
                    rows.set_tables(session, name, day, tables)
            continue
        with database.read() as session:
            people = refresh_figures.population(session, name, most=CARRIED_BESIDE)
            held = paused_by_hand(session, name)
        found = forecast_of(people, policy.refresh, name, now=now, paused=held)
        hours = [round(calls) for calls in found.hours[1:]]
        with database.write() as session:
            stored += rows.add(
                session,
                name,
                day,
                made_at=now,
                starts_at=hour_of(now) + _HOUR,
                hours=hours,
                tables=tables,
            )
        log.info("refreshes_foreseen", environment=name, connections=people.connections, day=day, calls=sum(hours))
    return stored


def paused_by_hand(session: Session, environment: str) -> list[str]:
    """Integrations that an operator has paused. A pause for an outage ends by itself, and is not foreseen to last."""
    return [
        key.integration
        for key, pause in refresh_pauses.current(session).items()
        if key.environment == environment and pause.cause is PauseCause.OPERATOR
    ]


def _together(found: Iterable[Forecast]) -> list[float]:
    """The calls of each minute from now on, of all these environments."""
    found = list(found)
    begun = found[0].now.minute
    return [sum(of) for of in zip(*(one.minutes for one in found), strict=True)][begun:]
