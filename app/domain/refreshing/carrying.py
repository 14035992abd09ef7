"""A connection's refreshes to come, by the rules that plan them: each is taken to succeed, and leads to the next one.

Nothing here plans by rules of its own. What Nango would answer is assumed (Nango contract: When a token is refreshed);
clocks and plans follow from that answer as they do from a real one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.domain.refreshing.answer import Answer
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.clocks import NANGO_MARGIN
from app.domain.refreshing.conclusion import conclude
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.lives import ClockSource, is_moved_by_renewal
from app.domain.refreshing.outcomes import why_not_refreshable
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A connection with its open plan, as they are stored.

    issued_at: of its token; None: not known. due_at, planned_at: of the plan, and when it was made; None: it has none.
    failures: in a row before it. waits: after a call without a result, or in a pause.
    """

    ref: UUID
    integration: str
    provider: str | None
    facts: RefreshFacts
    issued_at: datetime | None
    failures: int
    due_at: datetime | None
    forced: bool
    planned_at: datetime | None = None
    waits: bool = False

    @property
    def expires_at(self) -> datetime | None:
        """The token's expiry; None also where it is estimated."""
        return self.facts.told_expiry

    @property
    def was_read(self) -> bool:
        """Whether its token was read before."""
        return self.facts.was_read

    @property
    def life(self) -> timedelta | None:
        """The life of its token; None where that is not known."""
        if self.expires_at is None or self.issued_at is None or self.expires_at <= self.issued_at:
            return None
        return self.expires_at - self.issued_at

    def can_renew(self, policy: RefreshPolicy) -> bool:
        """Whether a call to Nango can renew its token, as far as is known."""
        fixed = self.facts.not_refreshable or why_not_refreshable(self.facts.auth_mode or "")
        return fixed is None and policy.renews is not Renewal.NEVER

    def has_fixed_grant(self, policy: RefreshPolicy) -> bool:
        """Whether its grant has a deadline that no renewal moves."""
        at = self.facts.grant_expires_at
        return at is not None and not is_moved_by_renewal(policy.lives, at, self.facts.renewed_at)


@dataclass(frozen=True, slots=True)
class Looks:
    """Calls at `begins` and then `every` so often, before `ends`. every: None for a single one."""

    begins: datetime
    every: timedelta | None
    ends: datetime
    forced: bool


class DeadClock(StrEnum):
    TOKEN = "token"  # noqa: S105 - a clock's name
    GRANT = "grant"


class WhyLapsing(StrEnum):
    DISABLED = "disabled"  # its policy has enabled = false
    NOT_REFRESHABLE = "not_refreshable"  # nothing renews its token
    NO_PLAN = "no_plan"  # it has no open plan
    PAUSED = "paused"  # its integration is paused
    HOURS = "hours"  # its turn is held back by windows or blackouts
    ALIVE = "alive"  # only its grant is kept, by its policy or for want of budget
    FAILING = "failing"  # refused, and tried again only later
    LATE = "late"  # its turn comes later, for another reason
    UNMOVED = "unmoved"  # no renewal moves the grant's deadline
    BUDGET = "budget"  # the request budget does not suffice


@dataclass(frozen=True, slots=True)
class Lapse:
    """A deadline that passes before the connection's turn."""

    at: datetime
    clock: DeadClock
    why: WhyLapsing


@dataclass(frozen=True, slots=True)
class _Step:
    """A call, and what is known and planned after it. renewed: it renewed the token."""

    after: Standing
    plan: Plan | None
    renewed: bool


def looks(
    standing: Standing, policy: RefreshPolicy, *, now: datetime, until: datetime, life: timedelta | None
) -> Iterator[Looks | Lapse]:
    """The calls until then, and the first deadline that passes before one. life: of its tokens, if not its own.

    Where each call leads to the next one the same time later, all further ones are one value.
    """
    if (lapse := _lapse(standing, policy, now, due_at=standing.due_at)) is not None:
        yield lapse
    state, at, forced = standing, standing.due_at, standing.forced
    while at is not None and at < until:
        at = max(at, now)
        yield Looks(at, None, until, forced)
        step = _step(state, policy, at=at, forced=forced, life=life or standing.life)
        if (plan := step.plan) is None:
            return
        if lapse is None and (lapse := _lapse(step.after, policy, at, due_at=plan.due_at)) is not None:
            yield lapse
        if (every := _interval(step, policy, at)) is not None:
            fixed = step.after.facts.grant_expires_at if step.after.has_fixed_grant(policy) else None
            yield Looks(plan.due_at, every, min(until, fixed or until), plan.forced)
            return
        state, at, forced = step.after, plan.due_at, plan.forced


def _lapse(standing: Standing, policy: RefreshPolicy, now: datetime, *, due_at: datetime | None) -> Lapse | None:
    """The first deadline after `now` that passes before the planned call."""
    can_renew = standing.can_renew(policy)
    found = []
    if (at := standing.expires_at) is not None and at > now and (not can_renew or due_at is None or due_at > at):
        why = WhyLapsing.NOT_REFRESHABLE if not can_renew else _why_late(standing, policy, due_at)
        found.append(Lapse(at, DeadClock.TOKEN, why))
    if (at := standing.facts.grant_expires_at) is not None and at > now and can_renew:
        if standing.has_fixed_grant(policy):
            found.append(Lapse(at, DeadClock.GRANT, WhyLapsing.UNMOVED))
        elif due_at is None or due_at > at:
            found.append(Lapse(at, DeadClock.GRANT, _why_late(standing, policy, due_at)))
    return min(found, key=lambda lapse: lapse.at, default=None)


def _why_late(standing: Standing, policy: RefreshPolicy, due_at: datetime | None) -> WhyLapsing:
    if due_at is None:
        return WhyLapsing.NO_PLAN
    if standing.failures:
        return WhyLapsing.FAILING
    if standing.facts.alive_by is not None:
        return WhyLapsing.ALIVE
    return WhyLapsing.HOURS if policy.hours is not None else WhyLapsing.LATE


def _step(standing: Standing, policy: RefreshPolicy, *, at: datetime, forced: bool, life: timedelta | None) -> _Step:
    """The call at this moment, with what is concluded of its answer."""
    outcome, expires_at = _answer(standing, policy, at=at, forced=forced, life=life)
    renewed = outcome in {RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN} or (
        outcome is RefreshOutcome.NO_EXPIRY and forced and standing.can_renew(policy)
    )
    answer = Answer(
        outcome=outcome,
        times=_times(standing, policy, expires_at, issued_at=at if renewed else None),
        asked_at=at,
        answered_at=at,
        has_credentials=True,
    )
    claimed = ClaimedRefresh(
        id=standing.ref,
        connection_ref=standing.ref,
        environment="",
        integration=standing.integration,
        connection_id="",
        provider=standing.provider,
        refresh_at=at,
        is_forced=forced,
        attempts=1,
        failures=standing.failures,
        deadline_at=None,
        keeps=None,
        outcome=None,
        facts=standing.facts,
    )
    found = conclude(claimed, standing.facts, answer, policy, now=at)
    after = replace(
        standing,
        facts=found.facts,
        issued_at=at if renewed else standing.issued_at,
        failures=found.failures,
    )
    return _Step(after, found.plan, renewed)


def _answer(
    standing: Standing, policy: RefreshPolicy, *, at: datetime, forced: bool, life: timedelta | None
) -> tuple[RefreshOutcome, datetime | None]:
    """The answer that Nango would give, and the token's expiry then."""
    expires_at = standing.expires_at
    if expires_at is None:
        if standing.was_read or life is None:
            return RefreshOutcome.NO_EXPIRY, None
        return RefreshOutcome.FIRST_SEEN, at + life
    # By force whatever has a refresh token is renewed, else what Nango's margin has begun of.
    by_itself = policy.renews is not Renewal.FORCED and expires_at - at <= policy.nango_margin
    if standing.can_renew(policy) and not standing.facts.has_lapsed and (forced or by_itself):
        return RefreshOutcome.RENEWED, at + (life or max(expires_at - at, NANGO_MARGIN))
    return (RefreshOutcome.NOT_REFRESHABLE if forced else RefreshOutcome.UNCHANGED), expires_at


def _times(
    standing: Standing, policy: RefreshPolicy, expires_at: datetime | None, *, issued_at: datetime | None
) -> TokenTimes:
    """The times in the answer. issued_at: of a token that the call has renewed, else None.

    A deadline that the provider tells is told again, counted anew where renewals move it.
    """
    facts = standing.facts
    grant_at, renewed_at = facts.grant_expires_at, facts.renewed_at
    if facts.grant_source != ClockSource.PROVIDER or grant_at is None:
        return TokenTimes(expires_at, issued_at=issued_at)
    if issued_at is not None and renewed_at is not None and policy.lives.rotates and grant_at > renewed_at:
        return TokenTimes(expires_at, issued_at=issued_at, grant_life=grant_at - renewed_at)
    return TokenTimes(expires_at, issued_at=issued_at, grant_at=grant_at)


def _interval(step: _Step, policy: RefreshPolicy, at: datetime) -> timedelta | None:
    """The interval of all further calls, where each leads to the next one in the same way; None where it may not."""
    plan, after = step.plan, step.after
    if plan is None or policy.hours is not None:
        return None
    if after.facts.has_lapsed:
        return plan.due_at - at
    if not step.renewed or after.expires_at is None:
        return None
    renews_again = plan.forced or (
        policy.renews is not Renewal.FORCED and after.expires_at - plan.due_at <= policy.nango_margin
    )
    return plan.due_at - at if renews_again and after.can_renew(policy) else None
