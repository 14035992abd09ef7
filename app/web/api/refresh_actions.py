"""Endpoints to act on renewals: run one now, pause and resume integrations, sweep one."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from app.config.durations import duration
from app.db.read import paused_integrations, refresh_listing
from app.domain.access import Scope
from app.errors import Conflict, InvalidInput
from app.ids import CONNECTION, REFRESH, parse
from app.services.connections import credentials
from app.services.refreshing import pausing, sweeps
from app.web.api.connections import RefreshAnswer
from app.web.api.endpoint import Call, Endpoint, endpoint, record
from app.web.api.expected import require_expected
from app.web.api.problems import INVALID_INPUT
from app.web.api.reading import identity, named_in

MOST: Final = 10_000  # connections of one call
Text = Annotated[str, Meta(min_length=1, max_length=255)]


class RunQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    force: Annotated[
        bool, Meta(description="Renew whatever the expiry; the provider issues another refresh token.")
    ] = False


class PausedQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    environment: Annotated[str | None, Meta(description="Of this environment.")] = None


class PauseWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    integration: Text
    environment: Text = "default"
    reason: Annotated[str, Meta(max_length=500)] | None = None


class PausedIntegrationRow(Struct, frozen=True, kw_only=True):
    """An integration whose renewals are paused. `cause`: `outage` of its provider, or `operator`. `failed` of
    `renewed_or_failed` connections began to fail. `waiting`: plans that are held, counted to 10,001.
    """

    environment: str
    integration: str
    cause: str
    problem: str
    paused_at: str
    actor: str | None
    reason: str | None
    failed: int | None
    renewed_or_failed: int | None
    share: float | None
    probes: int
    next_probe_at: str | None
    waiting: int


class PausedIntegrations(Struct, frozen=True, kw_only=True):
    data: list[PausedIntegrationRow]


class ResumedIntegration(Struct, frozen=True, kw_only=True):
    """The end of a pause. `released` plans were held, and become due over `over_seconds`."""

    environment: str
    integration: str
    cause: str
    released: int
    over_seconds: int


class SweepWanted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sweep. It is tried with `dry_run` first; the call that follows repeats its count in `expected`."""

    integration: Text
    within: Annotated[str, Meta(description="A span such as `2h`: from `1m` to `30d`.", max_length=64)]
    environment: Text = "default"
    limit: Annotated[int, Meta(ge=1, le=MOST, description="Connections at most.")] = MOST
    dry_run: Annotated[bool, Meta(description="Count, and change nothing.")] = False
    expected: (
        Annotated[int, Meta(ge=0, le=MOST, description="The `count` of the dry run: more by now is a 409.")] | None
    ) = None


class Sweep(Struct, frozen=True, kw_only=True):
    """`count` connections are to be renewed, of which `planned` are; `more`: there are others, for a further call.
    `swept_before`, `not_refreshable` and `needs_reconnect` are left alone. `calls_per_minute` of the sweep stand
    against `budget_per_minute` of all refreshes together, and it `takes_seconds` at least. `busiest_minute`: its calls
    of one minute; more where connections were planned for sooner.
    """

    environment: str
    integration: str
    dry_run: bool
    within_seconds: int
    count: int
    more: bool
    planned: int
    swept_before: int
    not_refreshable: int
    needs_reconnect: int
    calls_per_minute: float
    busiest_minute: int
    budget_per_minute: int
    takes_seconds: int


@endpoint("POST /refreshes/{ref_id}/run", scope=Scope.OPERATOR, asks_nango=True)
def run_refresh(call: Call, ref_id: str, query: RunQuery) -> RefreshAnswer:
    """Carry out a planned renewal now.

    Without `force` a token is renewed where it is due only, and the plan stays where nothing was. A refresh that is
    over is a 409.
    """
    context = call.context
    with context.database.read() as session:
        found = refresh_listing.refresh(session, identity(REFRESH, ref_id), now=context.clock())
    if found["finished_at"] is not None:
        raise Conflict(f"{found['id']} is over", found={"outcome": found["outcome"], "connection": found["connection"]})
    ref = parse(CONNECTION, found["connection"])
    with call.operations() as operations:
        done = credentials.refresh(operations, ref, actor=call.actor, forced=query.force)
    return RefreshAnswer(outcome=done.outcome, expires_at=done.expires_at.isoformat() if done.expires_at else None)


@endpoint("GET /refreshes/pauses", scope=Scope.VIEWER)
def list_pauses(call: Call, query: PausedQuery) -> PausedIntegrations:
    """List the integrations whose renewals are paused, by environment and name."""
    with call.context.database.read() as session:
        found = paused_integrations.listed(session, environment=query.environment)
    return PausedIntegrations(data=[record(one.shown(), PausedIntegrationRow) for one in found])


@endpoint("POST /refreshes/pauses", scope=Scope.OPERATOR)
def pause_refreshes(call: Call, body: PauseWanted) -> PausedIntegrationRow:
    """Pause the planned renewals of an integration, until they are resumed.

    Renewals and reads by hand go through. For one that an operator has paused already this is a 409.
    """
    context = call.context
    key = body.environment, body.integration
    with named_in("integration"):
        pausing.pause(context.database, *key, actor=call.actor, reason=body.reason, now=context.clock())
    with context.database.read() as session:
        found = paused_integrations.listed(session, environment=body.environment)
    mine = next((one for one in found if one.integration == body.integration), None)
    if mine is None:
        raise Conflict("it was resumed at the same moment")
    return record(mine.shown(), PausedIntegrationRow)


@endpoint("DELETE /refreshes/pauses/{environment}/{integration:path}", scope=Scope.OPERATOR)
def resume_refreshes(call: Call, environment: str, integration: str) -> ResumedIntegration:
    """Resume the renewals of a paused integration. What was held becomes due within minutes."""
    context = call.context
    done = pausing.resume(context.database, environment, integration, actor=call.actor, now=context.clock())
    return ResumedIntegration(
        environment=environment,
        integration=integration,
        cause=done.cause,
        released=done.released,
        over_seconds=round(done.over_seconds),
    )


@endpoint("POST /refreshes/sweeps", scope=Scope.OPERATOR, problems=(INVALID_INPUT,))
def sweep_integration(call: Call, body: SweepWanted) -> Sweep:
    """Renew all connections of an integration within a span, as before its provider revokes tokens.

    Workers renew them by force, spread evenly over the span, within the request budget. A second sweep within the span
    leaves those alone that are planned already.
    """
    context = call.context
    try:
        within = duration(body.within)
    except ValueError as wrong:
        raise InvalidInput(f"within: {wrong}") from None
    known = context.policy.environments.get(body.environment)
    limit_per_minute = context.clients.limit_of(known.account if known else body.environment)
    with named_in("integration"), context.database.read() as session:
        found = sweeps.preview(
            session,
            context.policy,
            body.environment,
            body.integration,
            within=within,
            limit_per_minute=limit_per_minute,
            limit=body.limit,
            now=context.clock(),
        )
    planned = 0
    if not body.dry_run:
        require_expected(len(found.ids), body.expected, noun="renewal")
        steps = sweeps.sweep(context.database, found, actor=call.actor, clock=context.clock)
        planned = sum(len(some) for some in steps)
    return record({**found.shown(), "dry_run": body.dry_run, "planned": planned}, Sweep)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    run_refresh,
    list_pauses,
    pause_refreshes,
    resume_refreshes,
    sweep_integration,
)
