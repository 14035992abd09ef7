"""A connection's refreshes to come, by the rules that plan them: each is taken to succeed, and leads to the next one.

Nothing here plans by rules of its own. What Nango would answer is assumed (Nango contract: When a token is refreshed);
clocks and plans follow from that answer as they do from a real one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.clocks import NANGO_MARGIN, read_clocks
from app.domain.refreshing.lives import ClockSource
from app.domain.refreshing.outcomes import MODES_WITHOUT_REFRESH, has_lapsed
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import Deadlines, next_plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.token_times import TokenTimes
from app.domain.states import RefreshOutcome

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A connection with its clocks and its open plan, as they are stored.

    expires_at: None also where it was estimated. was_read: its token was read before. issued_at: of the token; None:
    not known. due_at: of the open plan; None: it has none. lapsed: its token has expired for good.
    """

    integration: str
    provider: str | None
    auth_mode: str
    identity: str
    slot: int | None
    expires_at: datetime | None
    was_read: bool
    issued_at: datetime | None
    renewed_at: datetime | None
    authorized_at: datetime | None
    grant_at: datetime | None
    grant_source: ClockSource | None
    refreshable: bool
    lapsed: bool
    failures: int
    due_at: datetime | None
    forced: bool

    @property
    def life(self) -> timedelta | None:
        """The life of its token; None where that is not known."""
        if self.expires_at is None or self.issued_at is None or self.expires_at <= self.issued_at:
            return None
        return self.expires_at - self.issued_at

    def can_renew(self, policy: RefreshPolicy) -> bool:
        """Whether a call to Nango can renew its token, as far as is known."""
        return self.refreshable and self.auth_mode not in MODES_WITHOUT_REFRESH and policy.renews is not Renewal.NEVER


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
    """A call, and what is known and planned after it."""

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
            fixed = step.after.grant_at if _is_fixed(step.after, policy) else None
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
    if (at := standing.grant_at) is not None and at > now and can_renew:
        if _is_fixed(standing, policy):
            found.append(Lapse(at, DeadClock.GRANT, WhyLapsing.UNMOVED))
        elif due_at is None or due_at > at:
            found.append(Lapse(at, DeadClock.GRANT, _why_late(standing, policy, due_at)))
    return min(found, key=lambda lapse: lapse.at, default=None)


def _is_fixed(standing: Standing, policy: RefreshPolicy) -> bool:
    """Whether the deadline counts from the authorization, so that no renewal moves it."""
    life, since = policy.lives.refresh, standing.authorized_at
    if policy.lives.rotates or life is None or since is None:
        return False
    return standing.grant_at == since + life.span


def _why_late(standing: Standing, policy: RefreshPolicy, due_at: datetime | None) -> WhyLapsing:
    if due_at is None:
        return WhyLapsing.NO_PLAN
    if standing.failures:
        return WhyLapsing.FAILING
    return WhyLapsing.HOURS if policy.hours is not None else WhyLapsing.LATE


def _step(standing: Standing, policy: RefreshPolicy, *, at: datetime, forced: bool, life: timedelta | None) -> _Step:
    """The call at this moment, as it would be answered."""
    outcome, expires_at = _answer(standing, policy, at=at, forced=forced, life=life)
    renewed = outcome in {RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN} or (
        outcome is RefreshOutcome.NO_EXPIRY and forced and standing.can_renew(policy)
    )
    dead = has_lapsed(now=at, outcome=outcome, expires_at=expires_at, auth_mode=standing.auth_mode, was_forced=forced)
    after = replace(
        standing,
        expires_at=expires_at,
        was_read=True,
        failures=0,
        refreshable=renewed or (standing.refreshable and outcome is not RefreshOutcome.NOT_REFRESHABLE),
        lapsed=not renewed and (dead or standing.lapsed),
        **(_renewed_clocks(standing, policy, expires_at, at=at, outcome=outcome, forced=forced) if renewed else {}),
    )
    plan = next_plan(
        now=at,
        outcome=outcome,
        expires_at=expires_at,
        previous_expires_at=standing.expires_at,
        consecutive_failures=0,
        retry_after=None,
        auth_mode=standing.auth_mode,
        identity=standing.identity,
        policy=policy,
        was_forced=forced,
        lapsed=standing.lapsed,
        slot=standing.slot,
        deadlines=Deadlines(grant_at=after.grant_at, renewed_at=after.renewed_at, refreshable=after.refreshable),
    )
    return _Step(after, plan, renewed)


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
    if standing.can_renew(policy) and not standing.lapsed and (forced or by_itself):
        return RefreshOutcome.RENEWED, at + (life or max(expires_at - at, NANGO_MARGIN))
    return (RefreshOutcome.NOT_REFRESHABLE if forced else RefreshOutcome.UNCHANGED), expires_at


def _renewed_clocks(
    standing: Standing,
    policy: RefreshPolicy,
    expires_at: datetime | None,
    *,
    at: datetime,
    outcome: RefreshOutcome,
    forced: bool,
) -> dict[str, Any]:
    """The members that a renewal changes, its grant's deadline counted anew."""
    told = standing.grant_source == ClockSource.PROVIDER and policy.lives.rotates
    begun = standing.renewed_at if told else None
    grant_life = standing.grant_at - begun if standing.grant_at and begun and standing.grant_at > begun else None
    clocks = read_clocks(
        TokenTimes(expires_at, issued_at=at, grant_life=grant_life),
        outcome=outcome,
        was_forced=forced,
        asked_at=at,
        auth_mode=standing.auth_mode,
        previous_expires_at=standing.expires_at,
        renewed_at=standing.renewed_at,
        authorized_at=standing.authorized_at,
        lives=policy.lives,
    )
    members: dict[str, Any] = {"issued_at": at, "renewed_at": at}
    if clocks.grant.at is not None or standing.grant_source != ClockSource.PROVIDER:
        members |= {"grant_at": clocks.grant.at, "grant_source": clocks.grant.source}
    return members


def _interval(step: _Step, policy: RefreshPolicy, at: datetime) -> timedelta | None:
    """The interval of all further calls, where each leads to the next one in the same way; None where it may not."""
    plan, after = step.plan, step.after
    if plan is None or policy.hours is not None:
        return None
    if after.lapsed:
        return plan.due_at - at
    if not step.renewed or after.expires_at is None:
        return None
    renews_again = plan.forced or (
        policy.renews is not Renewal.FORCED and after.expires_at - plan.due_at <= policy.nango_margin
    )
    return plan.due_at - at if renews_again and after.can_renew(policy) else None
