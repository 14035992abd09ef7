"""A planned GET, and whose turn it is."""

from dataclasses import dataclass
from datetime import datetime

from app.domain.refreshing import slots
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.values import value


@value
class Plan:
    """A planned GET. forced: with force_refresh=true. reason: a text for reports."""

    due_at: datetime
    forced: bool
    reason: str


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
