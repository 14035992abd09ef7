"""Plans within the hours of a policy."""

from datetime import timedelta
from typing import Final

from app.domain.refreshing.hours import Hours, last_open, next_open
from app.domain.refreshing.plan import Plan, Turn

_WIDEST: Final = timedelta(hours=1)  # over which what was held back is spread, from the beginning of an open time


def within_hours(plan: Plan, turn: Turn, hours: Hours) -> Plan:
    """The plan at an open moment: a forced one earlier, since it has time, any other one later.

    A plain GET renews nothing before Nango's margin, so that a token whose margin lies in closed hours is renewed after
    them, and has expired meanwhile.
    """
    if hours.are_open(plan.due_at):
        return plan
    if plan.forced and (earlier := last_open(plan.due_at, hours, not_before=turn.soonest)):
        due_at = max(earlier - _WIDEST * turn.other_share("hours"), turn.soonest)
        return Plan(due_at if hours.are_open(due_at) else earlier, forced=True, reason=plan.reason)
    found = next_open(plan.due_at, hours)
    if found is None:
        return plan
    begins, ends = found
    due_at = begins + min(ends - begins, _WIDEST) * turn.other_share("hours")
    return Plan(due_at, forced=plan.forced, reason=f"{plan.reason}; held back by the policy's hours")
