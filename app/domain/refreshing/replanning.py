"""Plans under a changed policy, without another look at the token."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.answer import Answer
from app.domain.refreshing.clocks import Clock, grant_under
from app.domain.refreshing.conclusion import plan_after
from app.domain.refreshing.facts import RefreshFacts
from app.domain.refreshing.held_plans import within_hours
from app.domain.refreshing.keeping import AliveBy
from app.domain.refreshing.lives import ClockSource
from app.domain.refreshing.outcomes import MODES_WITHOUT_REFRESH
from app.domain.refreshing.plan import Plan, Turn
from app.domain.refreshing.policy import Keep, RefreshPolicy
from app.domain.refreshing.sweeping import REASON as SWEPT
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import ConnectionStatus, RefreshOutcome

WIDEST: Final = timedelta(hours=1)  # over which plans that become due by a changed policy are spread
SAME: Final = timedelta(seconds=5)  # two moments that differ by less are one plan
OFF: Final = "off"  # the fingerprint of an integration whose tokens are not renewed


def fingerprint(policy: RefreshPolicy | None) -> str:
    """The same text for the same policy, in each process. None: its tokens are not renewed."""
    return OFF if policy is None else hashlib.sha256(repr(policy).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlan:
    """An open plan as it is stored. next_at: when it is due by now. waits: after a call without a result, or a pause.

    made_at: when it was planned. failures: in a row before it.
    """

    plan: Plan
    next_at: datetime
    made_at: datetime
    failures: int = 0
    waits: bool = False


def plan_under(
    policy: RefreshPolicy, facts: RefreshFacts, planned: OpenPlan | None, *, identity: str, now: datetime
) -> Plan | None:
    """The plan of a connection whose policy has become this one; `planned.plan` itself where that stays as it is.

    facts: with what follows from the policy (`facts_under`).

    What the policy does not decide is left as it is, but for closed hours: a first look, a try after a failure, a wait,
    what has fallen back for want of budget, looks around an expiry. A sweep stays as it is.
    """
    turn = Turn(now, identity, facts.slot, policy)
    if planned is None:
        found = _new_plan(policy, facts, identity, now)
        return None if found is None else _not_at_once(found, turn, facts)
    if planned.plan.reason == SWEPT:
        return planned.plan
    if planned.failures or planned.waits or facts.alive_by == AliveBy.BUDGET or not _is_decided(policy, facts, planned):
        return _held(planned, turn)
    found = _after(policy, facts, identity, planned.made_at)
    if found is None:
        return None
    if _is_same(found, planned.plan):
        return planned.plan
    soon = _not_at_once(found, turn, facts)
    if soon is not found and planned.next_at <= soon.due_at:
        return _held(planned, turn)  # it comes no later as it is
    return soon


def facts_under(policy: RefreshPolicy, facts: RefreshFacts) -> RefreshFacts:
    """The facts with what follows from this policy: the grant's deadline, and whether the token is kept fresh."""
    kept = AliveBy.POLICY if policy.keep is Keep.ALIVE and facts.told_expiry is not None else None
    if kept is None and facts.alive_by == AliveBy.BUDGET:
        kept = AliveBy.BUDGET
    if not facts.was_read or facts.grant_source is None:
        return replace(facts, alive_by=kept)
    before = Clock(facts.grant_expires_at, ClockSource(facts.grant_source), facts.grant_reason)
    times = {"renewed_at": facts.renewed_at, "authorized_at": facts.authorized_at}
    grant = grant_under(policy.lives, before, facts.auth_mode or "", **times)
    return replace(
        facts,
        alive_by=kept,
        grant_expires_at=grant.at,
        grant_source=str(grant.source),
        grant_reason=grant.reason,
    )


def _is_decided(policy: RefreshPolicy, facts: RefreshFacts, planned: OpenPlan) -> bool:
    """Whether the plan follows from the policy and the token's times alone."""
    if not facts.was_read or facts.has_lapsed or facts.status != ConnectionStatus.ACTIVE:
        return False
    expires_at, made_at = facts.told_expiry, planned.made_at
    if expires_at is None:
        return True
    if policy.keep is Keep.ALIVE:
        return expires_at > made_at
    life = expires_at - min(facts.renewed_at or made_at, made_at)
    return expires_at - made_at > policy.lead(life) + policy.min_interval


def _new_plan(policy: RefreshPolicy, facts: RefreshFacts, identity: str, now: datetime) -> Plan | None:
    """The plan of a connection without one."""
    if facts.status == ConnectionStatus.ACTIVE:
        expires_at = facts.told_expiry
        if not facts.was_read and (facts.auth_mode or "") in MODES_WITHOUT_REFRESH:
            return None
        if not facts.was_read or (expires_at is not None and expires_at <= now and not facts.has_lapsed):
            return Plan(now, forced=False, reason="a look at the expiry: its policy has changed")
        return _after(policy, facts, identity, now)
    # Of those that need their end user only one that has expired for good is looked at.
    return _after(policy, facts, identity, now) if facts.needs_reconnect and facts.has_lapsed else None


def _after(policy: RefreshPolicy, facts: RefreshFacts, identity: str, at: datetime) -> Plan | None:
    """The plan that a look at the token at this moment would have led to."""
    expires_at = facts.told_expiry
    if expires_at is None and (facts.auth_mode or "") in MODES_WITHOUT_REFRESH:
        return None
    outcome = RefreshOutcome.RENEWED if expires_at is not None else RefreshOutcome.NO_EXPIRY
    if facts.has_lapsed:
        outcome = RefreshOutcome.UNCHANGED
    return plan_after(
        facts,
        Answer(outcome, times=TokenTimes(expires_at)),
        policy,
        now=at,
        identity=identity,
        previous_expires_at=expires_at,
        failures=0,
        was_forced=False,
        lapsed=facts.has_lapsed,
    )


def _not_at_once(plan: Plan, turn: Turn, facts: RefreshFacts) -> Plan:
    """The plan, or where it is due by now, one at the connection's turn within the hour, and before what lapses."""
    if plan.due_at > turn.soonest:
        return plan
    ahead = [at - turn.now for at in (facts.told_expiry, facts.grant_expires_at) if at is not None and at > turn.now]
    due_at = turn.now + min([WIDEST, *(left / 2 for left in ahead)]) * turn.other_share("policy")
    spread = Plan(due_at, plan.forced, plan.reason, plan.deadline_at, plan.keeps)
    return _in_hours(spread, turn)


def _held(planned: OpenPlan, turn: Turn) -> Plan:
    """The plan as it is, or where its moment lies in closed hours, at an open one."""
    before = planned.plan
    plan = Plan(max(planned.next_at, turn.now), before.forced, before.reason, before.deadline_at, before.keeps)
    held = _in_hours(plan, turn)
    return before if held is plan else held


def _in_hours(plan: Plan, turn: Turn) -> Plan:
    return plan if turn.policy.hours is None else within_hours(plan, turn, turn.policy.hours)


def _is_same(one: Plan, other: Plan) -> bool:
    """Whether they differ by their reasons at most."""
    if (one.forced, one.keeps) != (other.forced, other.keeps) or abs(one.due_at - other.due_at) >= SAME:
        return False
    if one.deadline_at is None or other.deadline_at is None:
        return one.deadline_at is other.deadline_at
    return abs(one.deadline_at - other.deadline_at) < SAME
