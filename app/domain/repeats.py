"""Whether identical bytes are the same delivery again, or another occurrence (promise 4).

Nango sends a delivery again while it has no answer, with the same bytes, for about 69 s
(Nango contract: Delivery and retries). It does not repeat what was answered. So the same bytes after an answer that was
written whole tell of another occurrence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final
from uuid import UUID

from app.domain.confirming import ABOUT_TYPES
from app.domain.event import Notice

# A web process reports once a second which answers were whole. It may be late while it cannot reach the database.
LATEST_REPORT: Final = timedelta(seconds=60)
DECIDE_AGAIN_AFTER: Final = timedelta(seconds=2)


class Answer(Enum):
    """The end of a delivery's answer, as far as the web process that took the delivery has reported it."""

    WHOLE = auto()  # written whole to an open connection
    LOST = auto()  # not, or only in part: the delivery is expected again
    UNKNOWN = auto()  # not reported yet; after LATEST_REPORT the process counts as dead, and the answer as lost


@dataclass(frozen=True, slots=True)
class Repeat:
    """A further delivery of bytes that came before. `id` is its own."""

    id: UUID
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Decided:
    """The event that each repeat belongs to, in their order: one of its own, or the one that it is a duplicate of.

    waits: there are more, and an answer's end is not known yet.
    """

    belongs_to: Mapping[UUID, UUID] = field(default_factory=dict)
    waits: bool = False

    @property
    def further(self) -> list[UUID]:
        """Those that are events of their own."""
        return [one for one, event_id in self.belongs_to.items() if one == event_id]


def is_told_apart(notice: Notice) -> bool:
    """Whether identical bytes may tell of two occurrences.

    What goes with a connection: syncs, async actions and forwards, which may come as the provider's bare body, of no
    known type (Nango contract: Forwarded webhooks). Auth events tell of a state, which is looked at again.
    """
    return notice.type in ABOUT_TYPES and not notice.is_auth


def decide(
    repeats: Sequence[Repeat],
    *,
    former: UUID,
    event_id: UUID,
    answers: Mapping[UUID, Answer],
    same: bool,
    now: datetime,
) -> Decided:
    """What the repeats are, in the order in which they came.

    former: the delivery before them, which belongs to `event_id`. answers: of the former and of the repeats.
    same: both of Nango's URLs lead here, so that whatever is identical is one event.
    """
    belongs_to: dict[UUID, UUID] = {}
    for one in repeats:
        answer = Answer.LOST if same else answers.get(former, Answer.UNKNOWN)
        if answer is Answer.UNKNOWN and now - one.received_at < LATEST_REPORT:
            return Decided(belongs_to, waits=True)
        event_id = one.id if answer is Answer.WHOLE else event_id
        belongs_to[one.id] = event_id
        former = one.id
    return Decided(belongs_to)
