"""Open plans follow a changed refresh policy: missing ones are made, others are moved or ended.

One process of all works at a time, in short transactions, each of which records how far it has come.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import audit, leases
from app.db import refresh_policies as rows
from app.db.connections import ConnectionState
from app.db.engine import Database
from app.db.errors import is_away
from app.db.refresh_policies import Changes, Looked, OpenPlanRow, PolicyRun
from app.domain.refreshing.facts import IntegrationKey, RefreshFacts
from app.domain.refreshing.plan import Keeps, Plan
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.refreshing.replanning import OpenPlan, facts_under, fingerprint, plan_under
from app.ids import new_id
from app.services.policy import Policy
from app.services.refreshing.pausing import shown
from app.telemetry import get_logger

ACTOR: Final = "waylink.toml"  # of what follows from the file
SETTLE: Final = timedelta(minutes=1)  # from the start of a process: others, of the former policy, end meanwhile
EVERY: Final = timedelta(seconds=10)  # between two looks of a process whether there is anything to do
LOOKED_AT_EVERY: Final = timedelta(minutes=5)  # between two rounds over the integrations
LEASE: Final = timedelta(seconds=60)
SECONDS: Final = 2.0  # of one call, which due refreshes wait for
STEPS: Final = 200  # integrations of one transaction
WHY_CLOSED: Final = "its integration is not refreshed any more: the policy has changed"
_KEEPS: Final = frozenset(Keeps)

log = get_logger(__name__)


@dataclass(slots=True)
class PolicyChanges:
    """Has plans follow the policies of this process, unless a process that started later goes by others."""

    database: Database
    policy: Policy
    clock: Callable[[], datetime]
    started_at: datetime = field(init=False)
    _next: datetime = field(init=False)
    _round_at: datetime = field(init=False)  # of the next round over the integrations
    _place: tuple[str, str] | None = field(default=None, init=False)  # in that round: environment and integration

    def __post_init__(self) -> None:
        self.started_at = self.clock()
        self._next = self._round_at = self.started_at + SETTLE

    def follow(self) -> None:
        """Go on for up to SECONDS, where no other process does."""
        now = self.clock()
        if now < self._next:
            return
        holder = new_id()
        self._next = now + EVERY
        with self.database.write() as session:
            if not leases.take(session, "refresh policies", holder=holder, now=now, lasts=LEASE):
                return
        try:
            if self._work(time.monotonic() + SECONDS):
                self._next = now
        except Exception as fault:
            if is_away(fault):
                raise
            log.exception("refresh_policies_fault")  # due refreshes are carried out regardless
        finally:
            with self.database.write() as session:
                leases.give_back(session, "refresh policies", holder=holder)

    def _work(self, ends_at: float) -> bool:
        """Returns whether more is to be done."""
        if self._place is not None or self.clock() >= self._round_at:
            self._look_around(ends_at)
        while (run := self._next_run()) is not None:
            self._go_on(run)
            if time.monotonic() >= ends_at:
                return True
        return self._place is not None

    # The policies of this process

    def _look_around(self, ends_at: float) -> None:
        """Note policies that are new. A round that takes too long goes on at the next call."""
        names = sorted(name for name, known in self.policy.environments.items() if known.has_api)
        environment, after = self._place or (names[0] if names else "", "")
        for name in (name for name in names if name >= environment):
            while found := self._some_integrations(name, after):
                self._note(name, found)
                after = max(found)
                self._place = (name, after)
                if time.monotonic() >= ends_at:
                    return
            after = ""
        self._place, self._round_at = None, self.clock() + LOOKED_AT_EVERY

    def _some_integrations(self, environment: str, after: str) -> dict[str, str]:
        """The next integrations of the environment, with the fingerprints of their policies."""
        found = {}
        with self.database.read() as session:
            for _ in range(STEPS):
                one = rows.next_integration(session, environment, after=after)
                if one is None:
                    break
                after = one.integration
                found[after] = fingerprint(self.policy.refresh_of(environment, one.integration, one.provider))
        return found

    def _note(self, environment: str, found: dict[str, str]) -> None:
        with self.database.read() as session:
            there = rows.fingerprints(session, environment, found)
        same = [name for name, mine in found.items() if name in there and there[name][0] == mine]
        older = [name for name in same if there[name][1] < self.started_at]
        other = [name for name in found if name not in there or there[name][0] != found[name]]
        new = [name for name in other if name not in there or there[name][1] < self.started_at]
        if not older and not new:
            return
        with self.database.write() as session:
            if older:
                rows.confirm(session, environment, older, started_at=self.started_at)
            for name in sorted(new):
                rows.note(session, IntegrationKey(environment, name), found[name], started_at=self.started_at)

    # Plans that follow

    def _next_run(self) -> PolicyRun | None:
        """A run of a policy that this process has, too."""
        names = [name for name, known in self.policy.environments.items() if known.has_api]
        with self.database.read() as session:
            for run in rows.unfinished(session, names, limit=STEPS):
                provider = rows.provider_of(session, run.key)
                if fingerprint(self.policy.refresh_of(*run.key, provider)) == run.fingerprint:
                    return run
        return None

    def _go_on(self, run: PolicyRun) -> None:
        """Look at the next connections of the run; at each alone where that fails."""
        try:
            self._chunk(run, limit=rows.CHUNK)
        except Exception as fault:
            if is_away(fault):
                raise
            log.exception("refresh_policies_fault", environment=run.key.environment, integration=run.key.integration)
            with self.database.read() as session:
                looked = rows.connections_of(session, run, limit=rows.CHUNK)
            for one in looked:
                run = self._alone(run, one)

    def _alone(self, run: PolicyRun, one: Looked) -> PolicyRun:
        """Look at one connection, or past it. Returns the run behind it."""
        try:
            self._chunk(run, limit=1)
        except Exception as fault:
            if is_away(fault):
                raise
            with self.database.write() as session:
                if rows.lock_run(session, run):
                    nothing = Changes(planned={}, moved={}, closed=(), connections=())
                    rows.count(session, run, nothing, after=one.connection_id, finished_at=None)
        return run._replace(after=one.connection_id)

    def _chunk(self, run: PolicyRun, *, limit: int) -> None:
        now = self.clock()
        with self.database.write() as session:
            if not rows.lock_run(session, run):
                return
            looked = rows.connections_of(session, run, limit=limit)
            chosen = [one.ref for one in looked if not (run.only_missing and one.plan_id)]
            changes = self._changes(*rows.lock(session, chosen), now)
            rows.write(session, changes, why_closed=WHY_CLOSED, now=now)
            finished_at = now if len(looked) < limit else None
            after = looked[-1].connection_id if looked else run.after
            counts = rows.count(session, run, changes, after=after, finished_at=finished_at)
            if finished_at is not None:
                _tell(session, run, counts, now)

    def _changes(
        self, connections: dict[UUID, ConnectionState], plans: dict[UUID, OpenPlanRow], now: datetime
    ) -> Changes:
        planned, moved, closed, changed = dict[UUID, Plan](), dict[UUID, Plan](), list[UUID](), list[ConnectionState]()
        for ref, connection in connections.items():
            row, before = plans.get(ref), connection.refresh_facts
            if row is not None and row.attempts > 0:
                continue  # under way: what follows is planned by the policy of its worker
            opened = None if row is None else _opened(row)
            policy = self.policy.refresh_of(connection.environment, connection.integration, connection.provider)
            facts, plan = _under(policy, before, opened, identity=ref.hex, now=now)
            if facts != before:
                connection.take_over(facts)
                changed.append(connection)
            if row is None or opened is None:
                if plan is not None:
                    planned[ref] = plan
            elif plan is None:
                closed.append(row.id)
            elif plan is not opened.plan:
                moved[row.id] = plan
        return Changes(planned=planned, moved=moved, closed=closed, connections=changed)


def _under(
    policy: RefreshPolicy | None, facts: RefreshFacts, opened: OpenPlan | None, *, identity: str, now: datetime
) -> tuple[RefreshFacts, Plan | None]:
    if policy is None:
        return replace(facts, alive_by=None), None
    facts = facts_under(policy, facts)
    return facts, plan_under(policy, facts, opened, identity=identity, now=now)


def _opened(row: OpenPlanRow) -> OpenPlan:
    keeps = Keeps(row.keeps) if row.keeps in _KEEPS else None
    plan = Plan(row.refresh_at, row.forced, row.reason, row.deadline_at if keeps else None, keeps)
    return OpenPlan(
        plan=plan, next_at=row.next_at, made_at=row.created_at, failures=row.failures, waits=row.outcome is not None
    )


def _tell(session: Session, run: PolicyRun, counts: dict[str, int], now: datetime) -> None:
    """Record in the audit what a change of the policy has led to, where it has led to anything."""
    if any(counts.values()):
        audit.record(session, actor=ACTOR, action="refreshes.replanned", subject=shown(run.key), now=now, detail=counts)
        named = {"environment": run.key.environment, "integration": run.key.integration}
        log.info("refreshes_replanned", **named, **counts)
