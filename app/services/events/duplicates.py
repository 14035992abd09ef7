"""Repeated deliveries: decided to be duplicates, or made events of their own (promise 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import repeats as rows
from app.db.bulk import Row
from app.db.event_claims import ClaimedEvent
from app.db.repeats import PER_CHECK, RepeatRow
from app.domain.event import Notice
from app.domain.repeats import DECIDE_AGAIN_AFTER, RepeatDecisions, RepeatedDelivery, decide, may_recur
from app.domain.states import EventState, Origin
from app.services.policy import Policy


@dataclass(frozen=True, slots=True)
class _Chain:
    """An event and its repeats, in order. last: the last one that was decided before, or None."""

    event: ClaimedEvent
    last: RepeatRow | None
    repeats: Sequence[RepeatRow]

    @property
    def former(self) -> tuple[UUID, UUID]:
        """The delivery before the repeats, and the web process that took it."""
        return (self.last.id, self.last.taken_by) if self.last else (self.event.id, self.repeats[0].first_by)

    @property
    def belongs_to(self) -> UUID:
        """The event of that delivery."""
        return (self.last and self.last.belongs_to) or self.event.id

    @property
    def goes_on(self) -> bool:
        """There may be more repeats than one read returns."""
        return len(self.repeats) + (self.last is not None) >= PER_CHECK


class Duplicates:
    """The repeats of a batch's events. `load` costs no statement for a batch without any."""

    def __init__(self, session: Session, policy: Policy, *, now: datetime) -> None:
        self._session, self._policy, self._now = session, policy, now
        self._looked_up_again: list[UUID] = []  # every repeat of these is a duplicate, and only asks for another lookup
        self._chains: dict[UUID, _Chain] = {}
        self._decided: dict[UUID, RepeatDecisions] = {}

    @classmethod
    def load(
        cls, session: Session, policy: Policy, events: Sequence[tuple[ClaimedEvent, Notice]], *, now: datetime
    ) -> "Duplicates":
        """Read and decide the repeats of these events, which are locked."""
        duplicates = cls(session, policy, now=now)
        repeated = [(event, notice) for event, notice in events if event.duplicates and event.origin == Origin.WEBHOOK]
        duplicates._looked_up_again = [event.id for event, notice in repeated if not may_recur(notice)]
        duplicates._chains = duplicates._read([event for event, notice in repeated if may_recur(notice)])
        duplicates._decided = duplicates._decide()
        return duplicates

    def changes(self, event: ClaimedEvent, *, finished: bool) -> Row:
        """Changes of the event's row. A finished event is looked up again while repeats are undecided."""
        decided = self._decided.get(event.id)
        if decided is None:
            return {}
        counted: dict[str, object] = {"duplicates": event.duplicates - len(decided.further)}
        if not finished or not (decided.waits or self._chains[event.id].goes_on):
            return counted
        pause = DECIDE_AGAIN_AFTER if decided.waits else timedelta(0)
        return counted | {"state": EventState.RECEIVED, "next_at": self._now + pause}

    def write(self) -> None:
        """Create the further events, and keep of each chain the repeat that the next one is compared with."""
        further, newest, over, duplicated = list[UUID](), dict[UUID, UUID](), list[UUID](), set[UUID]()
        for event_id, decided in self._decided.items():
            if not decided.belongs_to:
                continue
            *before, last = decided.belongs_to
            newest[last] = decided.belongs_to[last]
            former = self._chains[event_id].last
            over += [*([former.id] if former else []), *before]
            further += decided.further
            duplicated |= set(decided.belongs_to.values()) - {event_id}
        if further:
            rows.make_events(self._session, further, now=self._now)
        rows.save_decided(self._session, newest)
        rows.delete_many(self._session, over)
        rows.delete_of_events(self._session, self._looked_up_again)
        rows.revive(self._session, duplicated, now=self._now)

    def _read(self, events: Sequence[ClaimedEvent]) -> dict[UUID, _Chain]:
        found = rows.of_events(self._session, [event.id for event in events]) if events else {}
        chains = {}
        for event in events:
            repeats = found.get(event.id, [])
            decided = [repeat for repeat in repeats if repeat.belongs_to is not None]
            if len(repeats) > len(decided):
                chains[event.id] = _Chain(event, decided[-1] if decided else None, repeats[len(decided) :])
        return chains

    def _decide(self) -> dict[UUID, RepeatDecisions]:
        asked: dict[UUID, UUID] = {}
        for chain in self._chains.values():
            if not self._is_same(chain.event):
                asked |= dict([chain.former, *((repeat.id, repeat.taken_by) for repeat in chain.repeats)])
        answers = rows.answers(self._session, asked)
        return {
            event_id: decide(
                [RepeatedDelivery(repeat.id, repeat.received_at) for repeat in chain.repeats],
                former=chain.former[0],
                event_id=chain.belongs_to,
                answers=answers,
                same=self._is_same(chain.event),
                now=self._now,
            )
            for event_id, chain in self._chains.items()
        }

    def _is_same(self, event: ClaimedEvent) -> bool:
        """Both of the environment's webhook URLs lead here, so that identical deliveries are one event."""
        environment = self._policy.environments.get(event.environment)
        return environment is not None and environment.both_urls
