"""Facts on a connection's next renewal: its state, the window it may come in, and why there is none."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.outcomes import why_not_refreshable
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import ConnectionStatus, RefreshOutcome, RefreshState

OVERDUE: Final = timedelta(minutes=5)  # a due plan waits for no worker longer than that; Beat ticks every 5 seconds
SOONEST_ASK, LATEST_ASK = timedelta(minutes=1), timedelta(hours=6)  # until one asks again for a connection's window
_ROUNDING: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which a renewal may come. Both ends are the planned moment where the policy leaves no choice."""

    begins: datetime
    ends: datetime


def plan_state(*, next_at: datetime, finished_at: datetime | None, outcome: str | None, now: datetime) -> RefreshState:
    """The state of a refresh. next_at: when it is due, or when its worker's lease ends. outcome: so far."""
    if finished_at is not None:
        return RefreshState.FINISHED
    if outcome == RefreshOutcome.PAUSED:
        return RefreshState.PAUSED
    if next_at > now:
        return RefreshState.OPEN
    return RefreshState.OVERDUE if next_at < now - OVERDUE else RefreshState.DUE


def renewal_window(
    plan: Plan,
    policy: RefreshPolicy,
    *,
    made_at: datetime,
    expires_at: datetime | None,
    grant_at: datetime | None,
    renewed_at: datetime | None,
) -> Window:
    """The window that the planned moment was chosen from. made_at: when the plan was made.

    renewed_at: the latest moment by which the token was surely issued; None: not known.
    """
    since = min(renewed_at or made_at, made_at)
    found = []
    for deadline in filter(None, (expires_at, grant_at)):
        life = deadline - since
        if plan.forced:
            lead = policy.keep_alive_lead(life)
            found.append(Window(deadline - lead, deadline - lead / 2))
        elif deadline is expires_at:
            lead = policy.lead(life)
            found.append(Window(deadline - lead, deadline - lead + policy.width(lead)))
    inside = (one for one in found if one.begins - _ROUNDING <= plan.due_at <= one.ends + _ROUNDING)
    return next(inside, Window(plan.due_at, plan.due_at))


def why_no_plan(status: str, auth_mode: str, not_refreshable: str | None) -> str:
    """The reason why no renewal of a connection is planned."""
    if status == ConnectionStatus.DELETED:
        return "the connection is deleted"
    if status == ConnectionStatus.NEEDS_RECONNECT:
        return "the end user has to reconnect: a re-authorization makes a plan"
    if status == ConnectionStatus.UNCONFIRMED:
        return "Nango has not shown the connection yet"
    fixed = why_not_refreshable(auth_mode) or not_refreshable
    return fixed or "its policy plans none, or nothing is known that expires"


def ask_again_in(next_at: datetime | None, *, now: datetime) -> timedelta:
    """The time until the answer may be another one."""
    wait = LATEST_ASK if next_at is None else next_at - now
    return min(max(wait, SOONEST_ASK), LATEST_ASK)
