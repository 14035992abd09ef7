"""Endpoints for refreshes to come."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.domain.access import Scope
from app.domain.refreshing.carrying import DeadClock, WhyLapsing
from app.errors import NotFound
from app.services.refreshing import forecast_reports
from app.services.refreshing.forecasts import CARRIED_BESIDE, forecasts
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.problems import NOT_FOUND


class ForecastQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: Annotated[str | None, Meta(description="Of this environment.")] = None


class ForecastSpan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refreshes in the time that begins at `at`, and what the account's budget allows in it."""

    at: str
    refreshes: int
    budget: int


class BusiestMinute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The minute of the next day with the most refreshes; `mean`: of all minutes."""

    at: str
    refreshes: int
    mean: float


class ForecastBudget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of the account's `limit` per minute that is for refreshes, and how the next day's refreshes of all its
    environments fit into it: `minutes_over` have more, and `too_late` tokens expire before their turn.
    """

    account: str
    environments: list[str]
    limit: int
    per_minute: float
    busiest_minute: int
    minutes_over: int
    too_late: int


class ForecastLapse(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Connections whose token or grant lapses before their turn, the first one at `first_at`."""

    integration: str
    clock: DeadClock
    why: WhyLapsing
    connections: int
    first_at: str


class PastHour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`difference`: of what happened; above zero where more was forecast."""

    at: str
    forecast: int
    happened: int
    difference: float | None


class PastForecast(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored forecast and what happened, in those of its hours that have ended."""

    made_at: str
    hours: list[PastHour]
    forecast: int
    happened: int
    difference: float | None


class EnvironmentForecast(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refreshes to come: of the rest of this hour, 24 hours and 30 days. `carried`: the connections that stand for all;
    fewer than `connections` in a large environment. `overdue`: plans that are due already. `past`: the last forecast
    whose day has ended, or one of which an hour has.
    """

    environment: str
    made_at: str
    connections: int
    carried: int
    overdue: int
    rest_of_hour: int
    hours: list[ForecastSpan]
    days: list[ForecastSpan]
    busiest_minute: BusiestMinute
    budget: ForecastBudget
    lapses: list[ForecastLapse]
    past: PastForecast | None


class Forecasts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: list[EnvironmentForecast]


@endpoint("GET /refreshes/forecast", scope=Scope.VIEWER, matches_patterns=True, problems=(NOT_FOUND,))
def forecast_refreshes(call: Call, query: ForecastQuery) -> Forecasts:
    """Foresee refreshes by hour and day, for each environment.

    Every refresh is taken to succeed. Compared with the request budget, and with what lapses before its turn; beside
    it, how the last forecast did. In an environment of more than 20,000 connections some of them stand for all.
    """
    context = call.context
    if query.environment is not None and query.environment not in context.policy.environments:
        raise NotFound("environment", query.environment)
    found = forecasts(
        context.database,
        context.policy,
        context.clients.limit_of,
        now=context.clock(),
        environment=query.environment,
        most=CARRIED_BESIDE,
    )
    return Forecasts(data=[record(forecast_reports.shown(one), EnvironmentForecast) for one in found])


ENDPOINTS: Final[tuple[Endpoint, ...]] = (forecast_refreshes,)
