"""Refreshes under a controlled clock: the shipped refresher, policies and budget before a simulated Nango.

Simulated are Nango, the providers, the clock and the table of plans; the latter is replaced by the database's own in
`bench.refresh_database`, which comes to the same decisions.
"""

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar

from app.domain.budget import Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import first_plan
from app.domain.refreshing.policy import RefreshPolicies, RefreshPolicy
from app.domain.states import ConnectionStatus
from app.services.policy import Policy
from app.services.refreshing.planned import NangoAsk
from app.services.refreshing.refresher import Ask, Refresher, RefreshStore
from bench.refresh_lives import WAYLINK, policies
from bench.refresh_memory import MemoryStore, StoredConnection
from bench.refresh_nango import Decision, SimulatedNango
from bench.refresh_world import BEGINS, SimulatedConnection, SimulatedWorld

TICK: Final = timedelta(seconds=5)  # of Beat
FRUITLESS: Final = 8  # answers in a row without a result, after which a tick ends
PER_SECOND: Final = 100  # refreshes that all io workers carry out
AUTH_MODE: Final = "OAUTH2"

T = TypeVar("T")


@dataclass(slots=True)
class Clock:
    now: datetime = BEGINS

    def __call__(self) -> datetime:
        return self.now


class Inline(Executor):
    """Carries calls out one after the other, so that a run is the same each time."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as fault:  # noqa: BLE001 - as any pool, it hands the fault to the caller
            done.set_exception(fault)
        return done


@dataclass(slots=True)
class Simulation:
    """A run of Waylink in a world. decisions: of the calls, where wanted. per_second: what all workers carry out.

    keep: balances what is due against the request budget, where that may not suffice.
    """

    world: SimulatedWorld
    clock: Clock
    nango: SimulatedNango
    store: RefreshStore
    next_at: Callable[[], datetime | None]
    refresher: Refresher = field(init=False)
    decisions: list[Decision] | None = None
    per_second: float = PER_SECOND
    keep: Callable[[datetime], None] | None = None
    _policies: RefreshPolicies = field(init=False)
    known_policy: Callable[[str, str], RefreshPolicy | None] = field(init=False)

    def __post_init__(self) -> None:
        self._policies = policies(self.world.cohorts)
        self.known_policy = cache(lambda integration, provider: self._policies.of("default", integration, provider))
        self.start()

    def start(self) -> None:
        """Start the refresher, as a worker that begins."""
        ask: Ask = NangoAsk(
            self.nango,  # type: ignore[arg-type]
            Policy({}, refresh=self._policies),
        )
        if self.decisions is not None:
            ask = _Recorded(ask, self.decisions, self.clock)
        self.refresher = Refresher(self.store, ask, self.policy_of, self.clock, Inline())

    def policy_of(self, claimed: ClaimedRefresh) -> RefreshPolicy | None:
        return self.known_policy(claimed.integration, claimed.provider or "")

    def run(self, until: datetime) -> None:
        """Tick until then."""
        while (at := self.next_at()) is not None and at < until:
            now = max(self.clock.now + TICK, _next_tick(at))
            if self.world.is_away(WAYLINK, now):
                now = self.world.back_at(WAYLINK, now)
            if now >= until:
                break
            self.clock.now = now
            if self.keep is not None:
                self.keep(now)
            self._tick()
        self.clock.now = until

    def _tick(self) -> None:
        """Carry out what is due, one by one, until the workers have no time left or answers bring no result."""
        most, fruitless = self.per_second * TICK.total_seconds() + self.nango.spent, 0
        while self.nango.spent < most and fruitless < FRUITLESS:
            at = self.next_at()
            if at is None or at > self.clock.now:
                return
            fruitless = 0 if self.refresher.refresh_due(limit=1) else fruitless + 1


def in_memory(
    world: SimulatedWorld, *, per_minute: int, per_second: float = PER_SECOND, decisions: list[Decision] | None = None
) -> tuple[Simulation, MemoryStore]:
    """A run whose plans are in memory, with the connections and their first plans. per_minute: the account's limit."""
    clock, store, known = Clock(), MemoryStore(), policies(world.cohorts)
    nango = SimulatedNango(world, clock, per_minute)
    simulation = Simulation(world, clock, nango, store, store.next_at, decisions=decisions, per_second=per_second)
    for connection in world.connections.values():
        store.add(stored(connection), first(connection, known), now=connection.created_at)
    return simulation, store


def stored(connection: SimulatedConnection) -> StoredConnection:
    """The connection as Waylink stores it once its webhook was processed."""
    at = connection.created_at
    facts = RefreshFacts(status=ConnectionStatus.ACTIVE, auth_mode=AUTH_MODE, authorized_at=at, renewed_at=at)
    return StoredConnection(connection.ref, connection.name, connection.cohort.name, connection.cohort.provider, facts)


def first(connection: SimulatedConnection, known: RefreshPolicies) -> Plan | None:
    """Its first plan, as its webhook makes it."""
    cohort = connection.cohort
    policy = known.of("default", cohort.name, cohort.provider)
    if policy is None:
        return None
    return first_plan(now=connection.created_at, auth_mode=AUTH_MODE, identity=connection.ref.hex, policy=policy)


@dataclass(frozen=True, slots=True)
class _Recorded:
    ask: Ask
    decisions: list[Decision]
    clock: Callable[[], datetime]

    def __call__(self, claimed: ClaimedRefresh, priority: Priority) -> Answer | None:
        answer = self.ask(claimed, priority)
        if answer is not None:
            decision = Decision(claimed.connection_id, self.clock(), claimed.forces, answer.outcome)
            self.decisions.append(decision)
        return answer


def _next_tick(at: datetime) -> datetime:
    ticks = math.ceil((at - BEGINS) / TICK)
    return BEGINS + ticks * TICK
