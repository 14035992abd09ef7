"""Endpoints for refreshes to come."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field, to_builtins
from pydantic import ValidationError

from app.config.messages import reason
from app.config.refresh_tables import RefreshTables, policies_of
from app.domain.access import Scope
from app.domain.refreshing.carrying import DeadClock, WhyLapsing
from app.domain.refreshing.learning import AgeSince
from app.errors import FieldFault, InvalidFields, NotFound
from app.services.refreshing import forecast_reports
from app.services.refreshing.forecasts import CARRIED_BESIDE, forecasts
from app.services.refreshing.learnt_lives import learnt_lives, proposal
from app.services.refreshing.learnt_lives import shown as learnt_row
from app.services.refreshing.simulations import shown, simulate
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.problems import NOT_FOUND

MOST_FAULTS: Final = 20  # of one answer


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
    """Refreshes to come: of the rest of this hour, 24 hours and 30 days. `carried`: the connections that were carried
    forward, each for `weight` of them. `overdue`: plans that are due already. `past`: the last forecast whose day has
    ended, or one of which an hour has.
    """

    environment: str
    made_at: str
    connections: int
    carried: int
    weight: float
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


Tables = dict[str, dict[str, Any]]


class EnvironmentTables(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refresh tables of one environment, by integration and by provider, with the keys of waylink.toml."""

    refresh: Tables = field(default_factory=dict)
    refresh_providers: Tables = field(default_factory=dict)


class PolicyTrial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All refresh tables as they would stand in waylink.toml, in the place of those in force. `environment`: simulate
    this one alone.
    """

    refresh: Tables = field(default_factory=dict)
    refresh_providers: Tables = field(default_factory=dict)
    environments: dict[str, EnvironmentTables] = field(default_factory=dict)
    environment: str | None = None


class PolicyFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`calls_per_day` and `forced_per_day`: the mean of 30 days. `busiest_minute`: of the next day. `lapses`: the
    connections whose token or grant lapses before their turn.
    """

    calls_per_day: float
    forced_per_day: float
    busiest_minute: int
    lapses: int


class BothPolicies(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The figures under the policies in force, and under the others."""

    before: PolicyFigures
    after: PolicyFigures


class SimulatedIntegration(BothPolicies, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An integration's connections under both policies."""

    integration: str
    connections: int


class Simulation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The present connections of an environment under both policies. `carried`: those that were carried
    forward, each for `weight` of them.
    """

    environment: str
    connections: int
    carried: int
    weight: float
    integrations: list[SimulatedIntegration]
    total: BothPolicies


class Simulations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data: list[Simulation]


@endpoint(
    "POST /refreshes/simulate",
    scope=Scope.OPERATOR,
    matches_patterns=True,
    body_limit=64 * 1024,
)
def simulate_refreshes(call: Call, body: PolicyTrial) -> Simulations:
    """Compare other refresh policies with those in force, for the present connections.

    Nothing is changed. In an environment of more than 20,000 connections some of them stand for all.
    """
    context = call.context
    if body.environment is not None and body.environment not in context.policy.environments:
        raise InvalidFields([FieldFault("environment", "unknown", "names none that is configured")])
    given = to_builtins(body)
    given.pop("environment")
    try:
        tables = RefreshTables.model_validate(given)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False)
        raise InvalidFields(
            [FieldFault(".".join(map(str, error["loc"])), "policy", reason(error)) for error in errors[:MOST_FAULTS]]
        ) from None
    found = simulate(
        context.database,
        context.policy,
        context.policy.refresh,
        policies_of(tables),
        now=context.clock(),
        environment=body.environment,
        most=CARRIED_BESIDE,
    )
    return Simulations(data=[record(shown(one), Simulation) for one in found])


class LearntLife(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deaths of an integration's grants, and of these the ones at a common age, from `youngest` to `oldest`, counted
    `since` the authorization or the last renewal. `outlived`: living grants that are older. `proposal`: the key of a
    policy, or null, and `why_not` says why.
    """

    environment: str
    integration: str
    deaths: int
    at_common_age: int | None
    since: AgeSince | None
    youngest: str | None
    oldest: str | None
    outlived: int | None
    proposal: str | None
    why_not: str | None


class LearntLives(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`policy`: tables for waylink.toml, which nothing applies by itself; empty where nothing is proposed."""

    data: list[LearntLife]
    policy: str


@endpoint("GET /refreshes/learnt", scope=Scope.VIEWER, matches_patterns=True)
def learn_lives(call: Call, query: ForecastQuery) -> LearntLives:
    """Show the ages at which grants of each integration died, and the policy that they propose."""
    database = call.context.database
    found = learnt_lives(database, environment=query.environment)
    return LearntLives(data=[record(learnt_row(one), LearntLife) for one in found], policy=proposal(database, found))


ENDPOINTS: Final[tuple[Endpoint, ...]] = (forecast_refreshes, simulate_refreshes, learn_lives)
