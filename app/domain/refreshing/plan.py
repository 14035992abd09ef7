"""A planned GET, and whose turn it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.budget import SOON
from app.domain.refreshing import slots
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.values import value


class Keeps(StrEnum):
    """A thing that lapses at a plan's deadline."""

    TOKEN = "token"  # noqa: S105 - the access token, which a later renewal replaces
    GRANT = "grant"  # the grant, which only the end user can give again


@value
class Plan:
    """A planned GET. forced: with force_refresh=true. reason: a text for reports.

    deadline_at, keeps: the moment before which it has to come, and what lapses then; None where nothing does.
    """

    due_at: datetime
    forced: bool
    reason: str
    deadline_at: datetime | None = None
    keeps: Keeps | None = None


# The time before its deadline from which on a due plan goes before those without haste.
_URGENT: Final[Mapping[Keeps | None, timedelta]] = {
    Keeps.TOKEN: timedelta(seconds=SOON),
    Keeps.GRANT: timedelta(days=1),
}


def urgent_at(next_at: datetime, deadline_at: datetime | None, keeps: Keeps | str | None) -> datetime | None:
    """The moment from which on an open plan is claimed before others, in the order of these moments.

    Without a wait since it was planned that is the order of the deadlines. A plan that waits, for its lease or after a
    rate limit, has its turn when it is due again. None: never; it is claimed after those, in the order of `next_at`.
    """
    if deadline_at is None or keeps is None:
        return None
    return max(next_at, deadline_at - _URGENT[Keeps(keeps)])


@dataclass(frozen=True, slots=True)
class Turn:
    """The connection that is planned for, at this moment. identity: of any form, the same at each restart."""

    now: datetime
    identity: str
    slot: int | None
    policy: RefreshPolicy

    @property
    def soonest(self) -> datetime:
        """The earliest moment of its next GET."""
        return self.now + self.policy.min_interval

    def share(self, purpose: str) -> float:
        """The share of a window at which its turn comes, in [0, 1)."""
        return slots.share(self.slot, self.identity, purpose)

    def other_share(self, purpose: str) -> float:
        """A share for those whose first shares brought them to one moment."""
        return slots.other_share(self.slot, self.identity, purpose)

    def hashed(self, purpose: str) -> float:
        """A share for windows that connections come to one by one."""
        return slots.hashed_share(self.identity, purpose)
