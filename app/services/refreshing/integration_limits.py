"""Limits of an integration's planned refreshes, over all processes: a claim holds those that may not begin yet."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.db import refresh_turns as rows
from app.db import refreshes as refresh_rows
from app.deadlines import REFRESH_LEASE
from app.domain.refreshing.facts import ClaimedRefresh, IntegrationKey
from app.domain.refreshing.limits import admit, is_limited
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import RefreshOutcome


def keep(
    session: Session,
    taken: Sequence[ClaimedRefresh],
    policy_of: Callable[[ClaimedRefresh], RefreshPolicy | None],
    *,
    now: datetime,
) -> list[ClaimedRefresh]:
    """Of the plans that a claim has taken in this transaction, those that may begin now, in their order."""
    limited = defaultdict[IntegrationKey, list[ClaimedRefresh]](list)
    policies = dict[IntegrationKey, RefreshPolicy]()
    for claimed in taken:
        policy = policy_of(claimed)
        if policy is not None and is_limited(policy):
            policies[claimed.key] = policy
            limited[claimed.key].append(claimed)
    held = set()
    for key in sorted(limited):  # in one order everywhere, so that claims do not wait for each other
        held |= {plan.id for plan in _held(session, key, limited[key], policies[key], now)}
    return [claimed for claimed in taken if claimed.id not in held]


def _held(
    session: Session, key: IntegrationKey, plans: Sequence[ClaimedRefresh], policy: RefreshPolicy, now: datetime
) -> Sequence[ClaimedRefresh]:
    """Hold the plans of an integration that may not begin yet. Returns them."""
    turns, running = rows.lock(session, key, now=now), 0
    if policy.concurrency is not None:
        mine = [plan.id for plan in plans]
        most = policy.concurrency
        running = rows.count_running(session, key, but=mine, now=now, lease=REFRESH_LEASE, at_most=most)
    found = admit(policy, turns, running=running, wanted=len(plans), now=now)
    rows.save(session, key, found.turns)
    waiting = list(zip(plans[found.count :], found.held_until, strict=True))
    refresh_rows.hold(session, waiting, outcome=RefreshOutcome.RATE_LIMITED, error=_why(key, policy))
    return plans[found.count :]


def _why(key: IntegrationKey, policy: RefreshPolicy) -> str:
    limits = [f"{name} = {value}" for name in ("concurrency", "per_minute") if (value := getattr(policy, name))]
    return f"the limit of {key.environment}/{key.integration} ({' and '.join(limits)}): it has its turn later"
