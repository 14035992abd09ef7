"""The balance between the request budget and what is due, for plans in memory.

The rules are those of `app.domain.refreshing.keeping`; what is done with them is what
`app.services.refreshing.keeping` does with rows. Each connection counts for as many as it stands for.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from uuid import UUID

from app.domain.refreshing.budget_outlook import budget_per_minute
from app.domain.refreshing.keeping import EVERY, HORIZON, AliveBy, Group, GroupKey, balance
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.planning import Deadlines, alive_plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import ConnectionStatus
from bench.refresh_memory import MemoryStore, OpenPlan


@dataclass(slots=True)
class MemoryKeeper:
    """Balances once in EVERY. weights: by integration. per_minute: the account's limit.

    falls: how often each connection fell back, by day.
    """

    store: MemoryStore
    policy_of: Callable[[str, str], RefreshPolicy | None]
    weights: Mapping[str, float]
    per_minute: int
    falls: Counter[tuple[UUID, date]] = field(default_factory=Counter)
    _next: datetime | None = None
    _plans: dict[GroupKey, list[OpenPlan]] = field(default_factory=dict)

    def keep(self, now: datetime) -> None:
        if self._next is not None and now < self._next:
            return
        self._next = now + EVERY
        self._plans = {}
        for plan in self.store.open_plans():
            key = GroupKey("default", plan.connection.integration, plan.connection.provider)
            self._plans.setdefault(key, []).append(plan)
        found = balance([self._group(key, now) for key in self._plans], per_minute=budget_per_minute(self.per_minute))
        for key, count in found.falling.items():
            self._fall_back(key, math.ceil(count / self.weights[key.integration]), now)
        for key, count in found.returning.items():
            self._return(key, int(count / self.weights[key.integration]), now)

    def _group(self, key: GroupKey, now: datetime) -> Group:
        weight, policy = self.weights[key.integration], self._policy(key)
        due = [plan for plan in self._plans[key] if plan.next_at <= now + HORIZON]
        alive = sum(plan.connection.facts.alive_by == AliveBy.BUDGET for plan in self._plans[key])
        movable = sum(map(_is_movable, due))
        return Group(
            key=key,
            priority=policy.priority,
            due=round(len(due) * weight),
            movable=round(movable * weight),
            alive=round(alive * weight),
        )

    def _fall_back(self, key: GroupKey, count: int, now: datetime) -> None:
        policy, until = self._policy(key), now + HORIZON
        movable = [plan for plan in self._plans[key] if plan.next_at <= until and _is_movable(plan)]
        for plan in sorted(movable, key=_slot, reverse=True)[:count]:
            connection = plan.connection
            facts = connection.facts
            connection.facts = replace(facts, alive_by=AliveBy.BUDGET)
            self.falls[connection.ref, now.date()] += 1
            found = alive_plan(
                now=now,
                expires_at=facts.told_expiry,
                identity=connection.ref.hex,
                policy=policy,
                slot=facts.slot,
                deadlines=Deadlines(grant_at=facts.grant_expires_at, renewed_at=facts.renewed_at),
            )
            self.store.move(plan, found)

    def _return(self, key: GroupKey, count: int, now: datetime) -> None:
        fallen = [plan for plan in self._plans[key] if plan.connection.facts.alive_by == AliveBy.BUDGET]
        for number, plan in enumerate(sorted(fallen, key=_slot)[:count]):
            plan.connection.facts = replace(plan.connection.facts, alive_by=None)
            due_at = now + EVERY * (number / count)
            self.store.move(plan, Plan(due_at, forced=False, reason="fresh again: the request budget allows it"))

    def _policy(self, key: GroupKey) -> RefreshPolicy:
        policy = self.policy_of(key.integration, key.provider or "")
        return policy if policy is not None else RefreshPolicy()


def _is_movable(plan: OpenPlan) -> bool:
    active = plan.connection.facts.status == ConnectionStatus.ACTIVE
    return plan.keeps is Keeps.TOKEN and plan.attempts == 0 and active


def _slot(plan: OpenPlan) -> float:
    slot = plan.connection.facts.slot
    return math.inf if slot is None else slot
