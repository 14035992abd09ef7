"""Pauses of integrations during outages of their providers, for plans in memory.

The rules are those of `app.domain.refreshing.outages`; what is done with them is what
`app.services.refreshing.outage_watch` does with rows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.domain.refreshing import outages
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh
from app.domain.refreshing.outages import Pause, Tally, Window
from app.domain.refreshing.outcomes import CRASHED, REFUSALS
from app.domain.states import RefreshOutcome
from app.services.refreshing.outage_watch import COUNTED_EVERY
from app.services.refreshing.pausing import turn_of

Hold = Callable[[ClaimedRefresh, datetime], None]
Release = Callable[[str, datetime], None]


@dataclass(slots=True)
class MemoryWatch:
    """Pauses by integration, and the counts that begin them. release: lets an integration's held plans become due."""

    hold: Hold
    release: Release
    pauses: dict[str, Pause] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    _paused: frozenset[str] = frozenset()
    _pending: dict[str, Tally] = field(default_factory=dict)
    _asked_at: datetime | None = None
    _counted_at: datetime | None = None

    def keep(self, taken: Sequence[ClaimedRefresh], *, now: datetime) -> list[ClaimedRefresh]:
        """Of the claimed plans those to be carried out now; the others are held."""
        if taken:
            self._paused = frozenset(self.pauses)
        held = set()
        for key in sorted(self.pauses) if taken else ():
            mine = [plan for plan in taken if plan.integration == key]
            pause = self.pauses[key]
            probes = outages.PROBES if mine and outages.may_probe(pause, now=now) else 0
            if probes:
                self.pauses[key] = outages.probing(pause, now=now)
            for plan in mine[probes:]:
                turn = turn_of(plan.facts.slot, plan.connection_ref.hex)
                self.hold(plan, outages.held_until(pause, now=now, turn=turn))
                held.add(plan.id)
        return [plan for plan in taken if plan.id not in held]

    def excused(self, claimed: ClaimedRefresh, answer: Answer) -> Answer:
        if answer.outcome not in REFUSALS or answer.error_type == CRASHED or claimed.integration not in self.pauses:
            return answer
        return replace(answer, outcome=RefreshOutcome.PROVIDER_DOWN)

    def observe(self, claimed: ClaimedRefresh, answer: Answer, *, now: datetime) -> None:
        """Count a result, as it was before `excused`."""
        key, failing_before = claimed.integration, claimed.facts.last_error_type is not None
        seen = outages.tally(answer.outcome, was_forced=claimed.was_forced(answer), failing_before=failing_before)
        if not seen or answer.error_type == CRASHED or answer.asked_at is None:
            return
        self._pending[key] = self._pending.get(key, Tally()) + seen
        self._asked_at = min(answer.asked_at, self._asked_at or answer.asked_at)
        waits = not seen.failed and key not in self._paused
        if waits and self._counted_at is not None and now - self._counted_at < COUNTED_EVERY:
            return
        pending, asked_at = self._pending, self._asked_at
        self._pending, self._asked_at, self._counted_at = {}, None, now
        for ended in list(self._count(pending, asked_at, now)):
            self.release(ended, now)

    def _count(self, tallies: dict[str, Tally], asked_at: datetime, now: datetime) -> Iterable[str]:
        """Count results. Yields the integrations whose pause has ended."""
        for key in sorted(tallies):
            pause = self.pauses.get(key)
            if tallies[key].renewed and pause is not None and pause.paused_at <= asked_at:
                del self.pauses[key]
                self.windows.pop(key, None)
                yield key
                continue
            window = outages.counted(self.windows.get(key), tallies[key], now=now)
            self.windows[key] = window
            if outages.share(window, now=now).is_outage:
                self.pauses.setdefault(key, outages.begun(now=now))
