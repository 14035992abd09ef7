"""A ceiling of calls per connection and day that read credentials or refresh, so that no fault can make them many.

Waylink's own calls count, and are put off beyond it. Those of people and applications are neither counted nor refused.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.slots import other_share

_SPREAD: Final = timedelta(hours=1)  # over which the plans of the next day begin


def put_off_until(claimed: ClaimedRefresh, policy: RefreshPolicy, *, now: datetime) -> datetime | None:
    """The time on the next day (UTC) from which on it may be asked for again; None where calls of this day are left."""
    today = _day(now)
    if claimed.facts.calls_since != today or (claimed.facts.calls or 0) < policy.daily_calls:
        return None
    return today + timedelta(days=1) + _SPREAD * other_share(claimed.facts.slot, claimed.connection_ref.hex, "daily")


def counted(facts: RefreshFacts, calls: int, *, now: datetime) -> RefreshFacts:
    """The facts with further calls of this day."""
    today = _day(now)
    before = facts.calls or 0 if facts.calls_since == today else 0
    return replace(facts, calls_since=today, calls=before + calls)


def _day(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
