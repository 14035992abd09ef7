"""The shipped forecast of the calls of a day, beside the calls that came."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.db.read.refresh_figures import issued_at
from app.domain.refreshing.carrying import Standing
from app.domain.refreshing.forecasting import HOURS, forecast
from bench.refresh_lives import Cohort, policies
from bench.refresh_memory import MemoryStore, OpenPlan, StoredConnection

HOUR = timedelta(hours=1)


def foreseen(store: MemoryStore, cohorts: Sequence[Cohort], *, now: datetime) -> list[float]:
    """Calls of each of the 24 hours from `now` on, which is a whole hour. Each cohort is forecast by its weight."""
    known, plans = policies(cohorts), {plan.connection.ref: plan for plan in store.open_plans()}
    hours = [0.0] * HOURS
    for cohort in cohorts:
        mine = [each for each in store.connections.values() if each.integration == cohort.name]
        found = forecast(
            [_standing(each, plans.get(each.ref)) for each in mine],
            {(cohort.name, cohort.provider): known.of("default", cohort.name, cohort.provider)},
            connections=cohort.count,
            weight=cohort.weight,
            now=now,
            budget=None,
        )
        hours = [some + more for some, more in zip(hours, found.hours, strict=False)]
    return hours


def _standing(connection: StoredConnection, plan: OpenPlan | None) -> Standing:
    """As `app.db.read.refresh_figures` reads it."""
    facts = connection.facts
    return Standing(
        ref=connection.ref,
        integration=connection.integration,
        provider=connection.provider,
        facts=facts,
        issued_at=issued_at(plan.created_at if plan else None, facts.renewed_at or facts.authorized_at),
        failures=plan.failures if plan else 0,
        due_at=plan.next_at if plan else None,
        forced=bool(plan and plan.forced),
    )
