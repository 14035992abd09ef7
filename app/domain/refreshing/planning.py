"""Planning of token refreshes: arithmetic on expiries and outcomes, without clock or I/O.

Nango refreshes on a plain GET only within 15 minutes of the expiry (Nango contract: When a token is refreshed), so that
renewing is a GET at the right time. Times are aware datetimes. A connection's place in each window follows from its
slot, so that a plan is stable and no minute carries a herd.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.expiry_plans import after_lapse, at_expiry, by_force_before, only_alive, towards_expiry
from app.domain.refreshing.held_plans import within_hours
from app.domain.refreshing.lives import is_moved_by_renewal
from app.domain.refreshing.outcomes import MODES_WITHOUT_REFRESH, UNMOVED, has_lapsed
from app.domain.refreshing.plan import Keeps, Plan, Turn
from app.domain.refreshing.policy import Keep, RefreshPolicy
from app.domain.states import RefreshOutcome

RECONCILED_SPREAD: Final = timedelta(hours=1)  # of the first GETs of connections that a reconciliation found
_SHORTEST_OUTAGE: Final = timedelta(minutes=2)
SHORTEST_KEPT: Final = timedelta(hours=6)  # between a renewal and a deadline for which another one is forced


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """The known facts of a connection beside its expiry, for the plan of its next look.

    grant_at: the grant's deadline. renewed_at: the latest moment by which the token was surely issued. refreshable:
    False where a forced renewal changed nothing. warn_at: when a deadline is to be announced next; a look precedes it.
    """

    grant_at: datetime | None = None
    renewed_at: datetime | None = None
    refreshable: bool = True
    warn_at: datetime | None = None


NO_DEADLINES: Final = Deadlines()


def first_plan(
    *, now: datetime, auth_mode: str, identity: str, policy: RefreshPolicy, reconciled: bool = False
) -> Plan | None:
    """The plan of a new or re-authorized connection: only a GET shows the expiry (Nango contract: Read a connection).

    reconciled: found by a reconciliation, possibly with 100,000 others, so that the first GETs are spread wider.
    """
    if auth_mode in MODES_WITHOUT_REFRESH:
        return None
    turn = Turn(now, identity, None, policy)
    spread = RECONCILED_SPREAD if reconciled else policy.spread
    due_at = now + policy.first_delay + spread * turn.share("first")
    return _in_hours(Plan(due_at, forced=False, reason="first look at the expiry"), turn)


def next_plan(
    *,
    now: datetime,
    outcome: RefreshOutcome,
    expires_at: datetime | None,
    previous_expires_at: datetime | None,
    consecutive_failures: int,
    retry_after: float | None,
    auth_mode: str,
    identity: str,
    policy: RefreshPolicy,
    was_forced: bool = False,
    lapsed: bool = False,
    slot: int | None = None,
    deadlines: Deadlines = NO_DEADLINES,
    due_since: datetime | None = None,
) -> Plan | None:
    """The plan after an attempt, or None: nothing to plan until another event makes a plan.

    retry_after: seconds of Nango's rate limit, None without one. was_forced: the attempt had force_refresh=true.
    lapsed: the token was known to have expired for good before the attempt. slot: the connection's number, None before
    it has one. due_since: when the attempted plan became due.
    """
    renews = auth_mode not in MODES_WITHOUT_REFRESH and policy.renews is not Renewal.NEVER
    if auth_mode in MODES_WITHOUT_REFRESH and expires_at is None and previous_expires_at is None:
        return None
    turn = Turn(now, identity, slot, policy)
    plan: Plan | None = None
    match outcome:
        case RefreshOutcome.EXHAUSTED | RefreshOutcome.GONE | RefreshOutcome.SUPERSEDED:
            # Exhausted is final until a re-authorization, and force does not help (Nango contract: Failed refreshes).
            # A re-authorization makes a new plan.
            return None
        case RefreshOutcome.FAILED | RefreshOutcome.BACKING_OFF:
            plan = _after_failure(turn, consecutive_failures, retry_after, deadlines.grant_at)
            return _with_deadline(_in_hours(plan, turn), previous_expires_at if renews else None, deadlines, policy)
        case RefreshOutcome.PROVIDER_DOWN:
            return _in_hours(_after_outage(turn, due_since or now), turn)
        case RefreshOutcome.RATE_LIMITED | RefreshOutcome.NANGO_DOWN | RefreshOutcome.WAITED | RefreshOutcome.PAUSED:
            return _in_hours(_after_wait(turn, retry_after, was_forced=was_forced), turn)
        case RefreshOutcome.NO_EXPIRY:
            pass  # nothing is refreshed unless forced (Nango contract: When a token is refreshed)
        case _ if expires_at is not None:
            still_over = lapsed and outcome in UNMOVED and expires_at <= now
            over = still_over or has_lapsed(
                now=now, outcome=outcome, expires_at=expires_at, auth_mode=auth_mode, was_forced=was_forced
            )
            plan = _by_expiry(turn, outcome, expires_at, deadlines, renews=renews, over=over)
    if renews and deadlines.refreshable:
        plan = _or_forced(plan, turn)
        plan = _or_kept_alive(plan, turn, deadlines)
    plan = _in_hours(_or_warning(plan, turn, deadlines.warn_at), turn)
    return _with_deadline(plan, expires_at if renews else None, deadlines, policy)


def _by_expiry(
    turn: Turn, outcome: RefreshOutcome, expires_at: datetime, deadlines: Deadlines, *, renews: bool, over: bool
) -> Plan:
    """The plan that the token's expiry calls for. renews: its kind can be renewed. over: it has expired for good."""
    policy, lives = turn.policy, expires_at > turn.now
    if over:
        return after_lapse(turn)
    if lives and not (renews and deadlines.refreshable):
        return at_expiry(turn, expires_at)
    if lives and policy.keep is Keep.ALIVE:
        return only_alive(turn, expires_at)
    forcible = policy.renews is Renewal.FORCED and deadlines.refreshable
    return towards_expiry(turn, outcome, expires_at, deadlines.renewed_at, forcible=forcible)


def alive_plan(
    *,
    now: datetime,
    expires_at: datetime | None,
    identity: str,
    policy: RefreshPolicy,
    slot: int | None,
    deadlines: Deadlines,
) -> Plan:
    """The plan of a connection that falls back from fresh to alive, without an answer. Its grant's deadline is kept.

    Many fall back at once, and all of them are renewed about as often: so their first turns are spread over the whole
    time from the expiry on.
    """
    turn = Turn(now, identity, slot, policy)
    lapses_at = max(expires_at or now, now)
    plan = only_alive(turn, lapses_at)
    kept = _or_kept_alive(plan, turn, deadlines) or plan
    first = lapses_at + policy.min_interval  # a plain GET renews what has expired
    if policy.renews is not Renewal.FORCED and kept.due_at > first:
        kept = Plan(first + (kept.due_at - first) * turn.other_share("alive"), forced=False, reason=plan.reason)
    held = _in_hours(kept, turn) or kept
    return _with_deadline(held, None, deadlines, policy) or held


def _after_failure(turn: Turn, failures: int, retry_after: float | None, grant_at: datetime | None) -> Plan:
    # Few tries: for 30 s after a failure calls fail at once, and exhaustion follows on the fourth failing day
    # (Nango contract: Failed refreshes).
    policy = turn.policy
    position = min(max(failures, 1), len(policy.failure_delays)) - 1
    delay = policy.failure_delays[position] * (1 + turn.hashed(f"failure {failures}") / 4)
    if grant_at is not None and grant_at > turn.now:
        # An outage that ends shortly before the grant's deadline is not to be waited out beyond it.
        delay = max(min(delay, (grant_at - turn.now) / 4), policy.failure_delays[0])
    delay = max(delay, _wait(retry_after, policy), policy.min_interval)
    # Never forced: force does not help after a failure, and calls the provider each time
    # (Nango contract: Forced refreshes).
    return Plan(turn.now + delay, forced=False, reason="after a failed refresh")


def _after_wait(turn: Turn, retry_after: float | None, *, was_forced: bool) -> Plan:
    # Retry-After is rounded down and may be 0 (Nango contract: Rate limit): one second more, and a spread.
    policy = turn.policy
    delay = policy.default_wait if retry_after is None else _wait(retry_after, policy)
    due_at = turn.now + delay + timedelta(seconds=1) + policy.min_interval * turn.hashed("wait")
    # A rate-limited call had no effect and may be forced again; after a time-out the outcome is unknown (promise 1).
    forced = was_forced and retry_after is not None
    return Plan(due_at, forced=forced, reason="Nango was busy or away")


def _after_outage(turn: Turn, due_since: datetime) -> Plan:
    """A plain GET after half the time that the provider has kept the plan waiting, which began at `due_since`."""
    waited = min(max((turn.now - due_since) / 2, _SHORTEST_OUTAGE), turn.policy.longest_wait)
    delay = max(waited, turn.policy.min_interval) * (1 + turn.hashed("outage") / 4)
    return Plan(turn.now + delay, forced=False, reason="its provider was down")


def _or_forced(plan: Plan | None, turn: Turn) -> Plan | None:
    # Sliding grants, tokens without expiry and providers such as Facebook are renewed by force only
    # (Nango contract: Forced refreshes).
    policy = turn.policy
    if policy.force_every is None:
        return plan
    # Jitter shortens: a grant that expires after `force_every` must be used before.
    due_at = turn.now + max(policy.force_every * (1 - 0.1 * turn.share("force")), policy.min_interval)
    if plan is not None and plan.due_at <= due_at:
        return plan
    return Plan(due_at, forced=True, reason="forced on the policy's cadence")


def _or_kept_alive(plan: Plan | None, turn: Turn, deadlines: Deadlines) -> Plan | None:
    """The plan, or a forced renewal before the grant's deadline, where nothing renews it earlier.

    Each forced call brings another refresh token at the provider: there is one before each deadline, and no more.
    """
    policy, at = turn.policy, deadlines.grant_at
    if at is None or at <= turn.now or not is_moved_by_renewal(policy.lives, at, deadlines.renewed_at):
        return plan
    life = at - (deadlines.renewed_at or turn.now)
    if life < SHORTEST_KEPT:
        return plan  # a renewal that was just made did not move it, nor would the next one
    kept = by_force_before(turn, at, policy.keep_alive_lead(life), "keeps the grant alive before its deadline")
    if plan is not None and plan.due_at <= kept.due_at:
        return plan
    return kept


def _or_warning(plan: Plan | None, turn: Turn, warn_at: datetime | None) -> Plan | None:
    """The plan, or an earlier look at which a deadline is announced."""
    if warn_at is None or (plan is not None and plan.due_at <= warn_at):
        return plan
    due_at = max(warn_at, turn.soonest) + turn.policy.spread * turn.share("warning")
    if plan is not None and plan.due_at <= due_at:
        return plan
    return Plan(due_at, forced=False, reason="a look before a deadline is announced")


def _with_deadline(
    plan: Plan | None, expires_at: datetime | None, deadlines: Deadlines, policy: RefreshPolicy
) -> Plan | None:
    """The plan with what lapses first if it does not come. expires_at: None where nothing renews the token."""
    if plan is None or not deadlines.refreshable:
        return plan
    grant_at = deadlines.grant_at
    if grant_at is not None and not is_moved_by_renewal(policy.lives, grant_at, deadlines.renewed_at):
        grant_at = None
    moments = ((expires_at, Keeps.TOKEN), (grant_at, Keeps.GRANT))
    ahead = [(at, keeps) for at, keeps in moments if at is not None and at > plan.due_at]
    if not ahead:
        return plan
    at, keeps = min(ahead)
    return Plan(plan.due_at, plan.forced, plan.reason, at, keeps)


def _in_hours(plan: Plan | None, turn: Turn) -> Plan | None:
    hours = turn.policy.hours
    if plan is None or hours is None:
        return plan
    return within_hours(plan, turn, hours)


def _wait(retry_after: float | None, policy: RefreshPolicy) -> timedelta:
    seconds = min(max(retry_after or 0.0, 0.0), policy.longest_wait.total_seconds())
    return timedelta(seconds=seconds)
