"""Decisions on repeated deliveries: duplicates, or further events of identical bytes (promise 4).

Nango retries a delivery without an answer, with the same bytes, for about 69 s (Nango contract: Delivery and retries).
It does not retry an answered one. So identical bytes after a completely written answer are another event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final
from uuid import UUID

from app.domain.confirming import ABOUT_TYPES
from app.domain.event import Notice

# A web process reports its answers once a second, and later while the database is away.
LATEST_REPORT: Final = timedelta(seconds=60)
DECIDE_AGAIN_AFTER: Final = timedelta(seconds=2)


class AnswerEnd(Enum):
    """The end of a delivery's answer, as reported by the web process that received the delivery."""

    WHOLE = auto()  # written whole to an open connection
    LOST = auto()  # not written, or in part: Nango is expected to retry
    UNKNOWN = auto()  # not reported yet; after LATEST_REPORT the process counts as dead, and its answer as lost


@dataclass(frozen=True, slots=True)
class RepeatedDelivery:
    """A further delivery of identical bytes, with an id of its own."""

    id: UUID
    received_at: datetime


@dataclass(frozen=True, slots=True)
class RepeatDecisions:
    """Event ids by repeat id, in order: the repeat's own id for a further event, another id for a duplicate.

    waits: some repeats are undecided until an answer's end is reported.
    """

    belongs_to: Mapping[UUID, UUID] = field(default_factory=dict)
    waits: bool = False

    @property
    def further(self) -> list[UUID]:
        """Ids of the repeats that are further events."""
        return [repeat_id for repeat_id, event_id in self.belongs_to.items() if repeat_id == event_id]


def may_recur(notice: Notice) -> bool:
    """Whether identical bytes may be two events.

    They may for syncs, async actions and forwards; a forward may be the provider's bare body, of no known type
    (Nango contract: Forwarded webhooks). Auth events report a state, which is only looked up again.
    """
    return notice.type in ABOUT_TYPES and not notice.is_auth


def decide(
    repeats: Sequence[RepeatedDelivery],
    *,
    former: UUID,
    event_id: UUID,
    answers: Mapping[UUID, AnswerEnd],
    same: bool,
    now: datetime,
) -> RepeatDecisions:
    """Decide repeats in their order of receipt.

    former: the delivery before them, which belongs to `event_id`. answers: by delivery id, of the former and of the
    repeats. same: both of Nango's URLs lead here, so that identical deliveries are one event.
    """
    belongs_to: dict[UUID, UUID] = {}
    for repeat in repeats:
        answer = AnswerEnd.LOST if same else answers.get(former, AnswerEnd.UNKNOWN)
        if answer is AnswerEnd.UNKNOWN and now - repeat.received_at < LATEST_REPORT:
            return RepeatDecisions(belongs_to, waits=True)
        event_id = repeat.id if answer is AnswerEnd.WHOLE else event_id
        belongs_to[repeat.id] = event_id
        former = repeat.id
    return RepeatDecisions(belongs_to)
