"""Planning of token refreshes: arithmetic on expiries and outcomes, without clock or I/O.

Nango refreshes on a plain GET only within 15 minutes of the expiry (Nango contract: When a token is refreshed), so that
renewing is a GET at the right time. Times are aware datetimes; jitter comes from a hash of the connection's identity,
so that a plan is stable.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.states import RefreshOutcome
from app.domain.values import value

# A GET renews nothing for these (Nango contract: When a token is refreshed). The set of modes is open: an unknown
# mode is treated as renewable.
MODES_WITHOUT_REFRESH: Final = frozenset({"API_KEY", "BASIC", "TBA", "OAUTH1", "CUSTOM", "NONE", "INSTALL_PLUGIN"})

# Errors that Waylink sets itself: Nango's list does not show when they are over.
CRASHED: Final = "crashed"  # a refresh without a result, by a fault of Waylink
TOKEN_EXPIRED: Final = "token_expired"  # noqa: S105 - an error type: the token expired, and nothing can renew it
OWN_ERRORS: Final = frozenset({CRASHED, TOKEN_EXPIRED})

RECONCILED_SPREAD: Final = timedelta(hours=1)  # of the first GETs of connections that a reconciliation found


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """Durations of the plans. A GET is due `margin` minus a share of `spread` before the expiry.

    margin: below Nango's 15 minutes, so that no GET is too early (Nango contract: When a token is refreshed).
    spread: spreads connections with the same expiry; the last GET is due margin - spread before it.
    first_delay: before the first GET of a connection whose expiry is unknown, plus a share of `spread`.
    force_every: interval of forced refreshes, for grants that expire without use; None: none.
    min_interval: between two GETs of one connection.
    lapsed_every: between two GETs of a connection whose token expired for good, to find a missed re-authorization.
    failure_delays: waits after the 1st, 2nd … failure in a row, the last one for all further ones; each is
        lengthened by up to a quarter. All exceed Nango's cooldown of 30 s, and a day holds only a few.
    """

    margin: timedelta = timedelta(minutes=14)
    spread: timedelta = timedelta(minutes=4)
    first_delay: timedelta = timedelta(seconds=30)
    force_every: timedelta | None = None
    min_interval: timedelta = timedelta(seconds=30)
    lapsed_every: timedelta = timedelta(days=1)
    failure_delays: tuple[timedelta, ...] = (
        timedelta(seconds=90),
        timedelta(minutes=15),
        timedelta(hours=2),
        timedelta(hours=8),
    )
    default_wait: timedelta = timedelta(minutes=1)  # Nango counts in windows of 60 s (Nango contract: Rate limit)
    longest_wait: timedelta = timedelta(hours=1)


@value
class Plan:
    """A planned GET. forced: with force_refresh=true. reason: a text for reports."""

    due_at: datetime
    forced: bool
    reason: str


def classify(*, previous_expires_at: datetime | None, expires_at: datetime | None) -> RefreshOutcome:
    """The outcome of a successful GET, by its expiry: Nango's answer has no flag for a renewal.

    (Nango contract: When a token is refreshed)
    """
    if expires_at is None:
        return RefreshOutcome.NO_EXPIRY
    if previous_expires_at is None:
        return RefreshOutcome.FIRST_SEEN  # unknown whether this GET changed it
    return RefreshOutcome.UNCHANGED if previous_expires_at == expires_at else RefreshOutcome.RENEWED


def has_lapsed(
    *, now: datetime, outcome: RefreshOutcome, expires_at: datetime | None, auth_mode: str, was_forced: bool
) -> bool:
    """Whether the token has expired for good, so that only a re-authorization renews it.

    Nango answered 200 to a GET that renews anything renewable, and the expiry is still in the past: there is nothing to
    renew it with, as for OAUTH2 without a refresh token (Nango contract: When a token is refreshed). A plain GET does
    not prove it, since some providers are renewed by force only. Failed renewals and outages are no 200, and have their
    own outcomes.
    """
    if outcome is not RefreshOutcome.UNCHANGED or expires_at is None or expires_at > now:
        return False
    return was_forced or auth_mode in MODES_WITHOUT_REFRESH


def first_plan(
    *, now: datetime, auth_mode: str, identity: str, policy: RefreshPolicy, reconciled: bool = False
) -> Plan | None:
    """The plan of a new or re-authorized connection: only a GET shows the expiry (Nango contract: Read a connection).

    reconciled: found by a reconciliation, possibly with 100,000 others, so that the first GETs are spread wider.
    """
    if auth_mode in MODES_WITHOUT_REFRESH:
        return None
    spread = RECONCILED_SPREAD if reconciled else policy.spread
    due_at = now + policy.first_delay + spread * _share(identity, "first")
    return Plan(due_at, forced=False, reason="first look at the expiry")


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
) -> Plan | None:
    """The plan after an attempt, or None: nothing to plan until another event makes a plan.

    retry_after: seconds of Nango's rate limit, None without one. was_forced: the attempt had force_refresh=true.
    lapsed: the token was known to have expired for good before the attempt.
    """
    renews = auth_mode not in MODES_WITHOUT_REFRESH
    if not renews and expires_at is None and previous_expires_at is None:
        return None
    match outcome:
        case RefreshOutcome.EXHAUSTED | RefreshOutcome.GONE | RefreshOutcome.SUPERSEDED:
            # Exhausted is final until a re-authorization, and force does not help (Nango contract: Failed refreshes).
            # A re-authorization makes a new plan.
            return None
        case RefreshOutcome.FAILED:
            return _after_failure(now, consecutive_failures, retry_after, identity, policy)
        case RefreshOutcome.WAITED:
            return _after_wait(now, retry_after, identity, policy, was_forced=was_forced)
        case RefreshOutcome.NO_EXPIRY:
            # Without an expiry nothing is refreshed unless forced (Nango contract: When a token is refreshed).
            plan = None
        case RefreshOutcome.RENEWED | RefreshOutcome.FIRST_SEEN | RefreshOutcome.UNCHANGED if expires_at is not None:
            over = lapsed and outcome is RefreshOutcome.UNCHANGED and expires_at <= now
            if over or has_lapsed(
                now=now, outcome=outcome, expires_at=expires_at, auth_mode=auth_mode, was_forced=was_forced
            ):
                plan = _after_lapse(now, identity, policy)
            elif renews:
                plan = _towards_expiry(now, outcome, expires_at, identity, policy)
            else:
                plan = _at_expiry(now, expires_at, identity, policy)
        case _:
            plan = None
    return _or_forced(plan, now, identity, policy) if renews else plan


def _towards_expiry(
    now: datetime, outcome: RefreshOutcome, expires_at: datetime, identity: str, policy: RefreshPolicy
) -> Plan:
    remaining = expires_at - now
    soonest = now + policy.min_interval
    # A GET within 15 minutes of the expiry refreshes, an earlier one does not
    # (Nango contract: When a token is refreshed).
    if remaining > policy.margin + policy.min_interval:
        due_at = expires_at - policy.margin + policy.spread * _share(identity, "expiry")
        return Plan(max(due_at, soonest), forced=False, reason="before the token expires")
    if outcome is not RefreshOutcome.RENEWED:
        return _last_tries(now, outcome, expires_at, identity, policy)
    if remaining > timedelta(0):
        # Every GET refreshes a token that lives less than the margin (Nango contract: When a token is refreshed).
        due_at = now + remaining * (0.5 + 0.2 * _share(identity, "short"))
        return Plan(max(due_at, soonest), forced=False, reason="short-lived token")
    # Renewed, with an expiry in the past: a clock is wrong, here or at the provider. A GET at once would not help.
    due_at = now + policy.failure_delays[-1] * (1 + _share(identity, "past") / 4)
    return Plan(due_at, forced=False, reason="renewed, but already past its expiry")


def _last_tries(
    now: datetime, outcome: RefreshOutcome, expires_at: datetime, identity: str, policy: RefreshPolicy
) -> Plan:
    """Few GETs towards the expiry, one after it, and a forced one.

    Without a refresh token Nango answers 200 with the old token and no error
    (Nango contract: When a token is refreshed). Providers with a margin of their own (30 s, 60 s) refresh only shortly
    before the expiry, or after it. Others, such as Facebook, refresh by force only.
    """
    remaining = expires_at - now
    if remaining > 4 * policy.min_interval:
        due_at = now + remaining * (0.6 + 0.1 * _share(identity, "last"))
        return Plan(due_at, forced=False, reason="not renewed within Nango's margin; looking again")
    if remaining > timedelta(0) or outcome is RefreshOutcome.FIRST_SEEN:
        due_at = max(expires_at, now + policy.min_interval) + policy.min_interval * _share(identity, "last")
        return Plan(due_at, forced=False, reason="not renewed; a look after the expiry")
    due_at = now + policy.min_interval * (1 + _share(identity, "forced"))
    return Plan(due_at, forced=True, reason="expired and not renewed; the last look, by force")


def _at_expiry(now: datetime, expires_at: datetime, identity: str, policy: RefreshPolicy) -> Plan:
    """One GET after the expiry of a token that nothing renews: it may have been replaced meanwhile."""
    due_at = max(expires_at, now) + policy.min_interval * (1 + _share(identity, "expiry"))
    return Plan(due_at, forced=False, reason="nothing renews it; a look after the expiry")


def _after_lapse(now: datetime, identity: str, policy: RefreshPolicy) -> Plan:
    """A rare GET: a missed re-authorization shows only by a new expiry, in no list."""
    due_at = now + policy.lapsed_every * (1 - 0.1 * _share(identity, "lapsed"))
    return Plan(due_at, forced=False, reason="expired for good; a look whether it was re-authorized")


def _after_failure(
    now: datetime, failures: int, retry_after: float | None, identity: str, policy: RefreshPolicy
) -> Plan:
    # Few tries: for 30 s after a failure calls fail at once, and exhaustion follows on the fourth failing day
    # (Nango contract: Failed refreshes).
    position = min(max(failures, 1), len(policy.failure_delays)) - 1
    delay = policy.failure_delays[position] * (1 + _share(identity, f"failure {failures}") / 4)
    delay = max(delay, _wait(retry_after, policy), policy.min_interval)
    # Never forced: force does not help after a failure, and calls the provider each time
    # (Nango contract: Forced refreshes).
    return Plan(now + delay, forced=False, reason=f"after {max(failures, 1)} failed attempt(s) in a row")


def _after_wait(
    now: datetime, retry_after: float | None, identity: str, policy: RefreshPolicy, *, was_forced: bool
) -> Plan:
    # Retry-After is rounded down and may be 0 (Nango contract: Rate limit): one second more, and a spread.
    delay = policy.default_wait if retry_after is None else _wait(retry_after, policy)
    due_at = now + delay + timedelta(seconds=1) + policy.min_interval * _share(identity, "wait")
    # A rate-limited call had no effect and may be forced again; after a time-out the outcome is unknown (promise 1).
    forced = was_forced and retry_after is not None
    return Plan(due_at, forced=forced, reason="Nango was busy or away")


def _or_forced(plan: Plan | None, now: datetime, identity: str, policy: RefreshPolicy) -> Plan | None:
    # Sliding grants, tokens without expiry and providers such as Facebook are renewed by force only
    # (Nango contract: Forced refreshes).
    if policy.force_every is None:
        return plan
    # Jitter shortens: a grant that expires after `force_every` must be used before.
    due_at = now + max(policy.force_every * (1 - 0.1 * _share(identity, "force")), policy.min_interval)
    if plan is not None and plan.due_at <= due_at:
        return plan
    return Plan(due_at, forced=True, reason="forced on the policy's cadence")


def _wait(retry_after: float | None, policy: RefreshPolicy) -> timedelta:
    seconds = min(max(retry_after or 0.0, 0.0), policy.longest_wait.total_seconds())
    return timedelta(seconds=seconds)


def _share(identity: str, purpose: str) -> float:
    """A stable number in [0, 1) of the identity, different for each purpose."""
    digest = hashlib.blake2b(f"{purpose}\0{identity}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
