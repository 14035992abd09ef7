"""Conclusions from an answer: the connection's new facts, its next plan, and what is announced.

Planned and manual refreshes share it. Nothing here reads a clock or a database.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from app.domain.event import EventError, EventType
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.clocks import read_clocks
from app.domain.refreshing.daily_calls import counted
from app.domain.refreshing.expiring import GRANT_EXPIRING, ClockState, announcements, next_announcement
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts, members_of
from app.domain.refreshing.keeping import AliveBy
from app.domain.refreshing.lives import KnownLives, shown_moment
from app.domain.refreshing.outcomes import (
    CRASHED,
    FORCED_IN_VAIN,
    KEPT_OPEN,
    REFUSALS,
    SUCCESSES,
    TOKEN_EXPIRED,
    has_lapsed,
)
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import Deadlines, next_plan
from app.domain.refreshing.policy import Keep, RefreshPolicy
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.domain.values import value


@value
class Conclusion:
    """The changes to write after an answer.

    facts: of the connection. plan: the next one, or where `stays_open` when the same one is due again; None: none.
    failures: in a row, this one included. error: why this refresh failed, or what it showed. told: events to emit.
    """

    facts: RefreshFacts
    plan: Plan | None = None
    stays_open: bool = False
    failures: int = 0
    error: str | None = None
    told: tuple[tuple[EventType, EventError], ...] = ()


def conclude(
    claimed: ClaimedRefresh, facts: RefreshFacts, answer: Answer, policy: RefreshPolicy | None, *, now: datetime
) -> Conclusion:
    """The conclusion of a planned refresh.

    facts: of the connection as it is now, with a number where the answer calls for one. policy: None where its
    integration is not refreshed any more.
    """
    if answer.outcome is RefreshOutcome.SUPERSEDED:
        return Conclusion(facts, error=answer.error)  # no call was made
    if answer.put_off_until is not None:
        later = Plan(answer.put_off_until, forced=claimed.forces, reason="its daily calls are used up")
        return Conclusion(facts, later, stays_open=True, failures=claimed.failures, error=answer.error)
    before, previous_grant_at = facts, facts.grant_expires_at
    was_forced = claimed.was_forced(answer)
    if answer.asked_at is not None:
        facts = counted(facts, 2 if was_forced and claimed.looks_first(now=now) else 1, now=now)
    if policy is not None:
        facts = with_times(facts, answer, policy.lives, was_forced=was_forced)
        facts = with_keeping(facts, answer, policy)
    facts, expiring = _with_announcements(facts, answer, policy, previous_grant_at=previous_grant_at, now=now)
    failures = claimed.failures + 1
    plan = None
    if policy is not None:
        plan = plan_after(
            facts,
            answer,
            policy,
            now=now,
            identity=claimed.connection_ref.hex,
            previous_expires_at=claimed.facts.told_expiry,
            failures=failures,
            was_forced=was_forced,
            lapsed=claimed.facts.has_lapsed,
            due_since=claimed.refresh_at,
        )
    if answer.outcome in KEPT_OPEN:
        # Without a result of the connection the same plan stays open. What only looked was not forced yet.
        if plan is not None and answer.only_looked:
            plan = replace(plan, forced=True)
        return Conclusion(before, plan, stays_open=plan is not None, failures=claimed.failures, error=answer.error)
    return _finished(claimed, facts, answer, plan, expiring, now=now)


def _finished(
    claimed: ClaimedRefresh,
    facts: RefreshFacts,
    answer: Answer,
    plan: Plan | None,
    expiring: Sequence[EventError],
    *,
    now: datetime,
) -> Conclusion:
    """The conclusion of an answer with a result. facts: with its times. expiring: deadlines to announce."""
    lapsed = _lapsed(claimed, answer, now)
    facts, reason = _with_error(facts, answer, lapsed, now=now)
    told = [(EventType.TOKEN_EXPIRING, error) for error in expiring]
    if reason is not None and facts.status != ConnectionStatus.NEEDS_RECONNECT:
        facts = replace(facts, status=ConnectionStatus.NEEDS_RECONNECT)
        told.append((EventType.CONNECTION_NEEDS_RECONNECT, reason))
    return Conclusion(
        facts,
        plan,
        failures=_failures_after(claimed, answer, plan),
        error=lapsed.description if lapsed else answer.error,
        told=tuple(told),
    )


def _failures_after(claimed: ClaimedRefresh, answer: Answer, plan: Plan | None) -> int:
    """The failures in a row. A look that renewed nothing ends none where only a forced renewal would have."""
    if answer.outcome in REFUSALS:
        return claimed.failures + 1
    is_look = answer.outcome in {RefreshOutcome.UNCHANGED, RefreshOutcome.NO_EXPIRY} and not claimed.was_forced(answer)
    return claimed.failures if is_look and plan is not None and plan.forced else 0


def with_times(facts: RefreshFacts, answer: Answer, lives: KnownLives, *, was_forced: bool) -> RefreshFacts:
    """The facts with the times of the token that a successful answer showed. lives: what is known of its kind.

    An answer without credentials, as an API key without their scope gets, says nothing of them but that.
    """
    if answer.outcome not in SUCCESSES or answer.asked_at is None:
        return facts
    if not answer.has_credentials:
        return replace(facts, expires_at=answer.expires_at, expires_source=None)
    clocks = read_clocks(
        answer.times,
        outcome=answer.outcome,
        was_forced=was_forced,
        asked_at=answer.asked_at,
        auth_mode=facts.auth_mode or "",
        previous_expires_at=facts.told_expiry,
        renewed_at=facts.renewed_at,
        authorized_at=facts.authorized_at,
        lives=lives,
    )
    changed = members_of(clocks)
    if answer.outcome is RefreshOutcome.NOT_REFRESHABLE:
        changed["not_refreshable"] = FORCED_IN_VAIN
    elif answer.outcome in {RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN}:
        changed["not_refreshable"] = None
    return replace(facts, **changed)


def with_keeping(facts: RefreshFacts, answer: Answer, policy: RefreshPolicy) -> RefreshFacts:
    """The facts with what the policy keeps, after an answer by which a plan is made anew."""
    if answer.outcome not in SUCCESSES:
        return facts
    kept = AliveBy.POLICY if policy.keep is Keep.ALIVE else facts.alive_by
    if answer.expires_at is None or (kept == AliveBy.POLICY and policy.keep is Keep.FRESH):
        kept = None
    return replace(facts, alive_by=kept)


def plan_after(
    facts: RefreshFacts,
    answer: Answer,
    policy: RefreshPolicy,
    *,
    now: datetime,
    identity: str,
    previous_expires_at: datetime | None,
    failures: int,
    was_forced: bool,
    lapsed: bool,
    due_since: datetime | None = None,
) -> Plan | None:
    """The next plan. facts: with what the answer showed. failures: in a row, this one included.

    due_since: when the plan became due that was answered. One that has fallen back stays alive only, until a balance
    of the budget lets it return (`app.domain.refreshing.keeping`).
    """
    if facts.alive_by == AliveBy.BUDGET:
        policy = replace(policy, keep=Keep.ALIVE)
    deadlines = Deadlines(
        grant_at=facts.grant_expires_at,
        renewed_at=facts.renewed_at,
        refreshable=facts.not_refreshable is None,
        warn_at=next_announcement(_clock_state(facts), policy, now=now),
    )
    return next_plan(
        now=now,
        outcome=answer.outcome,
        expires_at=answer.expires_at,
        previous_expires_at=previous_expires_at,
        consecutive_failures=failures,
        retry_after=answer.retry_after,
        auth_mode=facts.auth_mode or "",
        identity=identity,
        policy=policy,
        was_forced=was_forced,
        lapsed=lapsed,
        slot=facts.slot,
        deadlines=deadlines,
        due_since=due_since,
    )


def _with_announcements(
    facts: RefreshFacts,
    answer: Answer,
    policy: RefreshPolicy | None,
    *,
    previous_grant_at: datetime | None,
    now: datetime,
) -> tuple[RefreshFacts, list[EventError]]:
    """The deadlines to announce after an answer that showed the token, and the facts with them as announced."""
    if policy is None or answer.outcome not in SUCCESSES or facts.status != ConnectionStatus.ACTIVE:
        return facts, []
    renewed = answer.outcome is RefreshOutcome.RENEWED
    state = _clock_state(facts, previous_grant_at=previous_grant_at, has_renewed=renewed)
    found = announcements(state, policy, now=now)
    for one in found:
        if one.error.type == GRANT_EXPIRING:
            facts = replace(facts, announced_grant=one.at)
        else:
            facts = replace(facts, announced_expiry=one.at)
    return facts, [one.error for one in found]


def _clock_state(
    facts: RefreshFacts, *, previous_grant_at: datetime | None = None, has_renewed: bool = False
) -> ClockState:
    """The clocks of the facts. previous_grant_at: the grant's deadline before the look, has_renewed: what it showed."""
    return ClockState(
        expires_at=facts.expires_at,
        grant_at=facts.grant_expires_at,
        grant_reason=facts.grant_reason,
        renewed_at=facts.renewed_at,
        authorized_at=facts.authorized_at,
        auth_mode=facts.auth_mode or "",
        not_refreshable=facts.not_refreshable,
        announced_expiry=facts.announced_expiry,
        announced_grant=facts.announced_grant,
        previous_grant_at=previous_grant_at,
        has_renewed=has_renewed,
    )


def _lapsed(claimed: ClaimedRefresh, answer: Answer, now: datetime) -> EventError | None:
    """The error, where this answer is the first to show that the token has expired for good; else None."""
    mode = claimed.facts.auth_mode or ""
    if (
        claimed.facts.has_lapsed
        or answer.expires_at is None
        or not has_lapsed(
            now=now,
            outcome=answer.outcome,
            expires_at=answer.expires_at,
            auth_mode=mode,
            was_forced=claimed.was_forced(answer),
        )
    ):
        return None
    expired = shown_moment(answer.expires_at)
    return EventError(TOKEN_EXPIRED, f"its token expired at {expired}, and asking Nango did not renew it")


def _with_error(
    facts: RefreshFacts, answer: Answer, lapsed: EventError | None, *, now: datetime
) -> tuple[RefreshFacts, EventError | None]:
    """The facts with the answer's error, and the reason why its end user has to re-authorize, or None.

    An error that is over stays: its event clears it, and tells of it.
    """
    if facts.errors_seen_at and answer.asked_at and answer.asked_at < facts.errors_seen_at:
        return facts, None  # its errors were seen by another call that was sent later
    facts = replace(facts, errors_seen_at=answer.asked_at or facts.errors_seen_at)
    if lapsed is not None:
        return facts.with_error(lapsed.type, now), lapsed
    if answer.outcome in SUCCESSES:
        if facts.last_error_type == CRASHED:
            facts = replace(facts, last_error_type=None, last_error_at=None, failing_since=None)
        return facts, None
    # A crash does not replace an error of Nango's, whose end is announced.
    if answer.error_type != CRASHED or facts.last_error_type is None:
        facts = facts.with_error(answer.error_type, now)
    if answer.outcome is not RefreshOutcome.EXHAUSTED:
        return facts, None
    return facts, EventError(answer.error_type, answer.error or "")
