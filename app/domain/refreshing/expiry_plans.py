"""Plans around the expiry of a token: before it, at it, and after it."""

from datetime import datetime, timedelta

from app.domain.refreshing.plan import Plan, Turn
from app.domain.states import RefreshOutcome


def towards_expiry(
    turn: Turn, outcome: RefreshOutcome, expires_at: datetime, renewed_at: datetime | None, *, forcible: bool
) -> Plan:
    """The renewal of a token that lives until then. renewed_at: when it was issued; None: not known.

    forcible: it is renewed by force only, and no forced call has failed to do so.
    """
    now, policy = turn.now, turn.policy
    remaining = expires_at - now
    life = expires_at - min(renewed_at or now, now)
    if forcible and remaining > policy.min_interval:
        return by_force_before(turn, expires_at, policy.keep_alive_lead(life), "renewed by force only")
    lead = policy.lead(life)
    # A GET within Nango's margin of the expiry refreshes, an earlier one does not
    # (Nango contract: When a token is refreshed).
    if remaining > lead + policy.min_interval:
        due_at = expires_at - lead + policy.width(lead) * turn.share("expiry")
        return Plan(max(due_at, turn.soonest), forced=False, reason="before the token expires")
    if outcome is not RefreshOutcome.RENEWED:
        return _last_tries(turn, outcome, expires_at)
    if remaining > timedelta(0):
        # Every GET refreshes a token that lives less than the margin (Nango contract: When a token is refreshed).
        due_at = now + remaining * (0.5 + 0.2 * turn.share("short"))
        return Plan(max(due_at, turn.soonest), forced=False, reason="short-lived token")
    # Renewed, with an expiry in the past: a clock is wrong, here or at the provider. A GET at once would not help.
    due_at = now + policy.failure_delays[-1] * (1 + turn.hashed("past") / 4)
    return Plan(due_at, forced=False, reason="renewed, but already past its expiry")


def by_force_before(turn: Turn, deadline: datetime, lead: timedelta, reason: str) -> Plan:
    """A forced renewal in the first half of the lead: the other half is for further tries."""
    due_at = deadline - lead + lead / 2 * turn.share("forced")
    return Plan(max(due_at, turn.soonest), forced=True, reason=reason)


def at_expiry(turn: Turn, expires_at: datetime) -> Plan:
    """One GET after the expiry of a token that nothing renews: it may have been replaced meanwhile."""
    due_at = max(expires_at, turn.now) + turn.policy.min_interval * (1 + turn.hashed("expiry"))
    return Plan(due_at, forced=False, reason="nothing renews it; a look after the expiry")


def only_alive(turn: Turn, expires_at: datetime) -> Plan:
    """A rare GET after the expiry, which renews the token: so its grant is used, and no idle limit is reached."""
    policy = turn.policy
    due_at = turn.now + policy.alive_every * (1 - 0.1 * turn.share("alive"))
    return Plan(max(due_at, expires_at + policy.min_interval), forced=False, reason="kept alive, not fresh")


def after_lapse(turn: Turn) -> Plan:
    """A rare GET: a missed re-authorization shows only by a new expiry, in no list."""
    due_at = turn.now + turn.policy.lapsed_every * (1 - 0.1 * turn.hashed("lapsed"))
    return Plan(due_at, forced=False, reason="expired for good; a look whether it was re-authorized")


def _last_tries(turn: Turn, outcome: RefreshOutcome, expires_at: datetime) -> Plan:
    """Few GETs towards the expiry, one after it, and a forced one.

    Without a refresh token Nango answers 200 with the old token and no error
    (Nango contract: When a token is refreshed). Providers with a margin of their own (30 s, 60 s) refresh only shortly
    before the expiry, or after it. Others, such as Facebook, refresh by force only.
    """
    now, policy = turn.now, turn.policy
    remaining = expires_at - now
    if remaining > 4 * policy.min_interval:
        due_at = now + remaining * (0.6 + 0.1 * turn.hashed("last"))
        return Plan(due_at, forced=False, reason="not renewed within Nango's margin; looking again")
    if remaining > timedelta(0) or outcome is RefreshOutcome.FIRST_SEEN:
        due_at = max(expires_at, turn.soonest) + policy.min_interval * turn.hashed("last")
        return Plan(due_at, forced=False, reason="not renewed; a look after the expiry")
    due_at = now + policy.min_interval * (1 + turn.hashed("forced"))
    return Plan(due_at, forced=True, reason="expired and not renewed; the last look, by force")
