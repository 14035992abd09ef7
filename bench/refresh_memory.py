"""Plans and connections of the refresher in memory, claimed in the order of the database's statement."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from app.deadlines import REFRESH_LEASE
from app.domain.refreshing import outages
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.outcomes import CRASHED, SUCCESSES, TOKEN_EXPIRED
from app.domain.refreshing.plan import Keeps, Plan, urgent_at
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.services.refreshing.pausing import turn_of
from app.services.refreshing.refresh_store import MOST_HELD
from app.services.refreshing.refresher import AnsweredRefresh, Conclude
from bench.refresh_pauses import MemoryWatch


@dataclass(slots=True)
class StoredConnection:
    """A connection as Waylink knows it."""

    ref: UUID
    name: str
    integration: str
    provider: str
    facts: RefreshFacts
    told: list[str] = field(default_factory=list)  # events, by type


@dataclass(slots=True)
class OpenPlan:
    """An open plan. version: of its place in the order, so that older places are passed over."""

    id: UUID
    connection: StoredConnection
    due_at: datetime
    next_at: datetime
    forced: bool
    failures: int
    deadline_at: datetime | None
    keeps: Keeps | None
    created_at: datetime
    outcome: str | None = None
    attempts: int = 0
    version: int = 0
    is_open: bool = True

    @property
    def is_held(self) -> bool:
        """Whether the end of a pause makes it due."""
        return self.outcome in {RefreshOutcome.PAUSED, RefreshOutcome.PROVIDER_DOWN}

    @property
    def urgent_at(self) -> datetime | None:
        return urgent_at(self.next_at, self.deadline_at, self.keeps)


_Place = tuple[datetime, int, OpenPlan, int]  # the moment, a number that no other place has, the plan, its version


class MemoryStore:
    """One open plan for each connection, as in the database."""

    def __init__(self) -> None:
        self.connections: dict[UUID, StoredConnection] = {}
        self._plans: dict[UUID, OpenPlan] = {}
        self._due: list[_Place] = []
        self._urgent: list[_Place] = []
        self._numbers = 0
        self._slots = 0
        self.watch = MemoryWatch(self._hold, self._release)

    def add(self, connection: StoredConnection, plan: Plan | None, *, now: datetime) -> None:
        self.connections[connection.ref] = connection
        if plan is not None:
            self._open(connection, plan, failures=0, now=now)

    def next_at(self) -> datetime | None:
        """The earliest moment of an open plan."""
        _drop_old(self._due)
        return self._due[0][0] if self._due else None

    def move(self, plan: OpenPlan, other: Plan) -> None:
        """Let an open plan that is not running become this one."""
        plan.due_at = plan.next_at = other.due_at
        plan.forced, plan.deadline_at, plan.keeps, plan.outcome = other.forced, other.deadline_at, other.keeps, None
        self._place(plan)

    def open_plans(self) -> list[OpenPlan]:
        return list(self._plans.values())

    def claim(self, *, limit: int, now: datetime) -> Sequence[ClaimedRefresh]:
        for _ in range(MOST_HELD):
            taken = self._claim(limit, now)
            kept = self.watch.keep(taken, now=now)
            if kept or not taken:
                return kept
        return []

    def _claim(self, limit: int, now: datetime) -> list[ClaimedRefresh]:
        taken: list[OpenPlan] = []
        for places in (self._urgent, self._due):
            while len(taken) < limit and (plan := _first(places, now)) is not None:
                taken.append(plan)
                plan.attempts += 1
                plan.next_at = now + REFRESH_LEASE
                self._place(plan)
        claimed = [_claimed(plan) for plan in taken]
        for plan in taken:
            plan.outcome = None  # of an earlier try
        return claimed

    def record(self, answered: Sequence[AnsweredRefresh], conclude: Conclude, *, now: datetime) -> None:
        excused = [(claimed, self.watch.excused(claimed, answer)) for claimed, answer in answered]
        for claimed, answer in excused:
            plan = self._plans.get(claimed.id)
            if plan is None or plan.attempts != claimed.attempts:
                continue
            connection = plan.connection
            if answer.outcome in SUCCESSES and connection.facts.slot is None:
                self._slots += 1
                connection.facts = replace(connection.facts, slot=self._slots)
            conclusion = conclude(claimed, connection.facts, answer)
            if conclusion.stays_open and conclusion.plan is not None:
                plan.next_at, plan.forced, plan.attempts = conclusion.plan.due_at, conclusion.plan.forced, 0
                plan.outcome = answer.outcome
                self._place(plan)
                continue
            self._close(plan)
            if answer.outcome is RefreshOutcome.SUPERSEDED:
                continue
            connection.facts = without_past_error(conclusion.facts, answer, now=now)
            connection.told += [str(kind) for kind, _ in conclusion.told]
            if conclusion.plan is not None:
                self._open(connection, conclusion.plan, failures=conclusion.failures, now=now)
        for claimed, answer in answered:
            self.watch.observe(claimed, answer, now=now)

    def restarted(self) -> "MemoryStore":
        """The same rows, read by processes that were started anew."""
        other = MemoryStore()
        other.connections, other._numbers, other._slots = self.connections, self._numbers, self._slots
        for plan in sorted(self._plans.values(), key=lambda plan: plan.id):
            other._plans[plan.id] = plan
            other._place(plan)
        return other

    def _hold(self, claimed: ClaimedRefresh, until: datetime) -> None:
        plan = self._plans[claimed.id]
        plan.next_at, plan.attempts, plan.outcome = until, plan.attempts - 1, RefreshOutcome.PAUSED
        self._place(plan)

    def _release(self, integration: str, now: datetime) -> None:
        held = [plan for plan in self._plans.values() if plan.connection.integration == integration and plan.is_held]
        over = outages.release_over(len(held))
        for plan in held:
            connection = plan.connection
            plan.next_at = now + over * turn_of(connection.facts.slot, connection.ref.hex)
            plan.outcome, plan.failures = None, 0
            self._place(plan)

    def _open(self, connection: StoredConnection, plan: Plan, *, failures: int, now: datetime) -> None:
        self._numbers += 1
        opened = OpenPlan(
            UUID(int=self._numbers),
            connection,
            plan.due_at,
            plan.due_at,
            plan.forced,
            failures,
            plan.deadline_at,
            plan.keeps,
            now,
        )
        self._plans[opened.id] = opened
        self._place(opened)

    def _close(self, plan: OpenPlan) -> None:
        plan.is_open = False
        del self._plans[plan.id]

    def _place(self, plan: OpenPlan) -> None:
        plan.version += 1
        number = plan.id.int
        heapq.heappush(self._due, (plan.next_at, number * 1000 + plan.version % 1000, plan, plan.version))
        if (at := plan.urgent_at) is not None:
            heapq.heappush(self._urgent, (at, number * 1000 + plan.version % 1000, plan, plan.version))


def without_past_error(facts: RefreshFacts, answer: Answer, *, now: datetime) -> RefreshFacts:
    """The facts without an error that the answer shows to be over, as the event of the recovery leaves them."""
    kind = facts.last_error_type
    if kind in {None, CRASHED} or answer.outcome not in SUCCESSES or answer.snapshot is None:
        return facts
    if answer.snapshot.auth_failing or (kind == TOKEN_EXPIRED and not answer.token_lives(now)):
        return facts
    cleared = replace(facts, last_error_type=None, last_error_at=None, failing_since=None)
    return replace(cleared, status=ConnectionStatus.ACTIVE)


def _drop_old(places: list[_Place]) -> None:
    while places and not (places[0][2].is_open and places[0][2].version == places[0][3]):
        heapq.heappop(places)


def _first(places: list[_Place], now: datetime) -> OpenPlan | None:
    """Take the first plan whose moment has come."""
    _drop_old(places)
    return heapq.heappop(places)[2] if places and places[0][0] <= now else None


def _claimed(plan: OpenPlan) -> ClaimedRefresh:
    connection = plan.connection
    return ClaimedRefresh(
        id=plan.id,
        connection_ref=connection.ref,
        environment="default",
        integration=connection.integration,
        connection_id=connection.name,
        provider=connection.provider,
        refresh_at=plan.due_at,
        is_forced=plan.forced,
        attempts=plan.attempts,
        failures=plan.failures,
        deadline_at=plan.deadline_at,
        keeps=plan.keeps,
        outcome=plan.outcome,
        facts=connection.facts,
    )
