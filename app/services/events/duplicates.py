"""Decide what repeated deliveries are: duplicates, or events of their own, which are made here (promise 4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import repeats as rows
from app.db.bulk import Row
from app.db.events import LockedEvent
from app.db.repeats import PER_LOOK, RepeatRow
from app.domain.event import Notice
from app.domain.repeats import LOOK_AGAIN_AFTER, Decided, Repeat, decide, is_told_apart
from app.domain.states import EventState, Origin
from app.services.policy import Policy


@dataclass(frozen=True, slots=True)
class _Chain:
    """An event and its repeats, in their order. `last`: the last one that was decided before; None for none."""

    event: LockedEvent
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
        """Whether there may be more repeats, which another look is for."""
        return len(self.repeats) + (self.last is not None) >= PER_LOOK


class Repeating:
    """The repeats of a batch's events, which are locked. A batch without any costs no statement."""

    def __init__(
        self, session: Session, policy: Policy, events: Sequence[tuple[LockedEvent, Notice]], *, now: datetime
    ) -> None:
        self._session, self._policy, self._now = session, policy, now
        repeated = [(event, notice) for event, notice in events if event.duplicates and event.origin == Origin.WEBHOOK]
        # Of these every repeat is a duplicate, and looking at the event again is all that it asks for.
        self._looked_at = [event.id for event, notice in repeated if not is_told_apart(notice)]
        self._chains = self._load([event for event, notice in repeated if is_told_apart(notice)])
        self._decided = self._decide()

    def changes(self, event: LockedEvent, *, settled: bool) -> Row:
        """What its repeats change of an event's row. A settled one is looked at again while some are undecided."""
        decided = self._decided.get(event.id)
        if decided is None:
            return {}
        counted: dict[str, object] = {"duplicates": event.duplicates - len(decided.further)}
        if not settled or not (decided.waits or self._chains[event.id].goes_on):
            return counted
        pause = LOOK_AGAIN_AFTER if decided.waits else timedelta(0)
        return counted | {"state": EventState.RECEIVED, "next_at": self._now + pause}

    def write(self) -> None:
        """Make the further events, and keep of each chain the one that the next repeat is judged by."""
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
        rows.keep_decided(self._session, newest)
        rows.forget(self._session, over)
        rows.forget_of(self._session, self._looked_at)
        rows.revive(self._session, duplicated, now=self._now)

    def _load(self, events: Sequence[LockedEvent]) -> dict[UUID, _Chain]:
        found = rows.of_events(self._session, [event.id for event in events]) if events else {}
        chains = {}
        for event in events:
            repeats = found.get(event.id, [])
            decided = [one for one in repeats if one.belongs_to is not None]
            if len(repeats) > len(decided):
                chains[event.id] = _Chain(event, decided[-1] if decided else None, repeats[len(decided) :])
        return chains

    def _decide(self) -> dict[UUID, Decided]:
        asked: dict[UUID, UUID] = {}
        for chain in self._chains.values():
            if not self._is_same(chain.event):
                asked |= dict([chain.former, *((one.id, one.taken_by) for one in chain.repeats)])
        answers = rows.answers(self._session, asked)
        return {
            event_id: decide(
                [Repeat(one.id, one.received_at) for one in chain.repeats],
                former=chain.former[0],
                event_id=chain.belongs_to,
                answers=answers,
                same=self._is_same(chain.event),
                now=self._now,
            )
            for event_id, chain in self._chains.items()
        }

    def _is_same(self, event: LockedEvent) -> bool:
        """Whether all that is identical is one event there: both of Nango's URLs lead here."""
        environment = self._policy.environments.get(event.environment)
        return environment is not None and environment.both_urls
