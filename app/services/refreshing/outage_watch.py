"""Outages of providers: seen by the results of refreshes, probed, and ended. Plans that are due meanwhile are held.

Opens short transactions, none while Nango is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit
from app.db import refresh_pauses as rows
from app.db import refreshes as refresh_rows
from app.db.engine import Database
from app.domain.refreshing import outages
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh, IntegrationKey
from app.domain.refreshing.outages import Pause, PauseCause, Share, Tally
from app.domain.refreshing.outcomes import CRASHED, REFUSALS
from app.domain.states import RefreshOutcome
from app.services.refreshing.pausing import note, release, shown, turn_of

PROVIDER: Final = "provider"  # the actor of what Waylink concludes from a provider's answers
COUNTED_EVERY: Final = timedelta(seconds=5)  # of renewals alone; failures and ends of pauses are counted at once


def excused(session: Session, claimed: ClaimedRefresh, answer: Answer) -> Answer:
    """The answer, as `provider_down` where the provider refused during an outage: that blames no connection."""
    if answer.outcome not in REFUSALS or answer.error_type == CRASHED:
        return answer
    row = rows.find(session, claimed.key)
    if row is None or row.cause != PauseCause.OUTAGE:
        return answer
    told = f"{answer.error}; {row.failed} of {row.renewed_or_failed} connections began to fail within ten minutes"
    return replace(answer, outcome=RefreshOutcome.PROVIDER_DOWN, error=told)


@dataclass(slots=True)
class OutageWatch:
    """Holds plans of paused integrations, and counts results, which may begin or end a pause; one per process."""

    database: Database
    _lock: Lock = field(default_factory=Lock, init=False)
    _paused: frozenset[IntegrationKey] = field(default=frozenset(), init=False)
    _pending: dict[IntegrationKey, Tally] = field(default_factory=dict, init=False)
    _asked_at: datetime | None = field(default=None, init=False)  # the first of what is pending
    _counted_at: datetime | None = field(default=None, init=False)

    def keep(self, session: Session, taken: Sequence[ClaimedRefresh], *, now: datetime) -> list[ClaimedRefresh]:
        """Of the plans that a claim has taken in this transaction, those to be carried out now, in their order.

        Those of paused integrations are held, but for a few where a round of probes is due.
        """
        pauses = rows.current(session) if taken else {}
        self._paused = frozenset(pauses)
        held = set[UUID]()
        for key, pause in pauses.items():
            mine = [plan for plan in taken if plan.key == key]
            probes = outages.PROBES if mine and _begins_probes(session, key, pause, now=now) else 0
            waiting = _held(mine[probes:], pause, now=now)
            refresh_rows.hold(session, waiting, outcome=RefreshOutcome.PAUSED, error=_why_held(key, pause))
            held |= {plan.id for plan in mine[probes:]}
        return [plan for plan in taken if plan.id not in held]

    def observe(self, results: Sequence[tuple[ClaimedRefresh, Answer]], *, now: datetime) -> None:
        """Count results, as they were before `excused`."""
        with self._lock:
            urgent = [self._add(claimed, answer) for claimed, answer in results]
            waits = self._counted_at is not None and now - self._counted_at < COUNTED_EVERY
            if not self._pending or (waits and not any(urgent)):
                return
            pending, asked_at = self._pending, self._asked_at
            self._pending, self._asked_at, self._counted_at = {}, None, now
        count(self.database, pending, asked_at=asked_at or now, now=now)

    def _add(self, claimed: ClaimedRefresh, answer: Answer) -> bool:
        """Add a result to what is pending. Returns whether it may begin or end a pause."""
        key, failing_before = claimed.key, claimed.facts.last_error_type is not None
        seen = outages.tally(answer.outcome, was_forced=claimed.was_forced(answer), failing_before=failing_before)
        if not seen or answer.error_type == CRASHED or answer.asked_at is None:
            return False
        self._pending[key] = self._pending.get(key, Tally()) + seen
        self._asked_at = min(answer.asked_at, self._asked_at or answer.asked_at)
        return seen.failed > 0 or key in self._paused


def answered(database: Database, environment: str, integration: str, *, asked_at: datetime, now: datetime) -> None:
    """End the pause for an outage, where there is one: the provider has answered a renewal by hand."""
    key = IntegrationKey(environment, integration)
    with database.read() as session:
        is_paused = rows.find(session, key) is not None
    if is_paused:
        count(database, {key: Tally(renewed=1)}, asked_at=asked_at, now=now)


def count(database: Database, tallies: Mapping[IntegrationKey, Tally], *, asked_at: datetime, now: datetime) -> None:
    """Count results of refreshes, the first of which was asked for at `asked_at`."""
    begun, ended = dict[IntegrationKey, Share](), list[IntegrationKey]()
    with database.write() as session:
        for key in sorted(tallies):
            if tallies[key].renewed and rows.end(session, key, cause=PauseCause.OUTAGE, before=asked_at):
                ended.append(key)
                _audit(session, key, "refreshes.resumed", {}, now)
                continue
            window = outages.counted(rows.lock_window(session, key, now=now), tallies[key], now=now)
            rows.save_window(session, key, window)
            share = outages.share(window, now=now)
            if share.is_outage and rows.begin(session, key, outages.begun(now=now), seen=share):
                begun[key] = share
                _audit(session, key, "refreshes.paused", _facts(share), now)
    for key, share in begun.items():
        note(key, PauseCause.OUTAGE, "begun", **_facts(share))
    for key in ended:
        released, _ = release(database, key, now=now)
        note(key, PauseCause.OUTAGE, "ended", released=released)


def _begins_probes(session: Session, key: IntegrationKey, pause: Pause, *, now: datetime) -> bool:
    """Begin a round of probes, where one is due."""
    due = outages.may_probe(pause, now=now)
    return due and rows.begin_probes(session, key, outages.probing(pause, now=now), now=now)


def _held(plans: Sequence[ClaimedRefresh], pause: Pause, *, now: datetime) -> list[tuple[ClaimedRefresh, datetime]]:
    return [
        (plan, outages.held_until(pause, now=now, turn=turn_of(plan.facts.slot, plan.connection_ref.hex)))
        for plan in plans
    ]


def _audit(session: Session, key: IntegrationKey, action: str, detail: Mapping[str, object], now: datetime) -> None:
    """Record what Waylink concluded from a provider's answers."""
    facts = {"cause": PauseCause.OUTAGE, **detail}
    audit.record(session, actor=PROVIDER, action=action, subject=shown(key), now=now, detail=facts)


def _facts(share: Share) -> dict[str, object]:
    return {"failed": share.failed, "renewed_or_failed": share.of}


def _why_held(key: IntegrationKey, pause: Pause) -> str:
    if pause.cause is PauseCause.OPERATOR:
        return f"refreshes of {shown(key)} are paused by an operator"
    return f"refreshes of {shown(key)} are paused: its provider seems to be down"
