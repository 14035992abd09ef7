"""Connections fall back from fresh to alive where the request budget cannot keep all fresh, and return.

Opens short transactions.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.db import kept_alive as rows
from app.db import leases
from app.db.connections import ConnectionState
from app.db.engine import Database
from app.domain.refreshing.budget_outlook import budget_per_minute
from app.domain.refreshing.keeping import EVERY, HORIZON, AliveBy, Balance, Group, GroupKey, balance
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import Deadlines, alive_plan
from app.domain.refreshing.policy import Keep, RefreshPolicy, RefreshPriority
from app.ids import new_id
from app.services.policy import Policy
from app.telemetry import REFRESHES_KEPT, get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class Keeper:
    """Balances each account once in EVERY, in one process of all. limit_of: an account's requests per minute."""

    database: Database
    policy: Policy
    limit_of: Callable[[str], int]
    clock: Callable[[], datetime]
    _next: datetime | None = field(default=None, init=False)

    def keep(self) -> None:
        """Balance the accounts whose turn it is. Many plans are moved in several transactions."""
        now = self.clock()
        if self._next is not None and now < self._next:
            return
        self._next = now + EVERY / 4
        for account, environments in self._accounts().items():
            with self.database.write() as session:
                mine = leases.take(session, f"refreshes kept:{account}", holder=new_id(), now=now, lasts=EVERY)
            if mine:
                self._balance(account, environments, now)

    def _accounts(self) -> Mapping[str, list[str]]:
        found = defaultdict(list)
        for name, environment in self.policy.environments.items():
            if environment.has_api:
                found[environment.account].append(name)
        return found

    def _balance(self, account: str, environments: list[str], now: datetime) -> None:
        with self.database.read() as session:
            due = rows.due(session, environments, until=now + HORIZON)
            alive = rows.alive(session, environments)
        groups = [self._group(key, due.get(key, (0, 0)), alive.get(key, 0)) for key in {*due, *alive}]
        found = balance(groups, per_minute=budget_per_minute(self.limit_of(account)))
        fallen = sum(self._fall_back(key, count, now) for key, count in found.falling.items())
        returned = sum(self._return(key, count, now) for key, count in found.returning.items())
        _note(account, found, fallen=fallen, returned=returned)

    def _group(self, key: GroupKey, due: tuple[int, int], alive: int) -> Group:
        policy = self.policy.refresh_of(*key)
        priority = policy.priority if policy else RefreshPriority.NORMAL
        is_fresh = policy is not None and policy.keep is Keep.FRESH
        return Group(
            key=key, priority=priority, due=due[0], movable=due[1] if is_fresh else 0, alive=alive if is_fresh else 0
        )

    def _fall_back(self, key: GroupKey, count: int, now: datetime) -> int:
        policy, moved = self.policy.refresh_of(*key), 0
        for size in _chunks(count) if policy else ():
            with self.database.write() as session:
                locked = rows.lock_falling(session, key, until=now + HORIZON, limit=size)
                for _, connection in locked:
                    connection.alive_by = AliveBy.BUDGET
                plans = {ref: _alive_plan(connection, policy, now) for ref, connection in locked if policy}
                rows.move(session, plans, [connection for _, connection in locked])
            moved += len(locked)
        return moved

    def _return(self, key: GroupKey, count: int, now: datetime) -> int:
        moved = 0
        for size in _chunks(count):
            with self.database.write() as session:
                locked = rows.lock_returning(session, key, limit=size)
                plans = {}
                for number, (ref, connection) in enumerate(locked, start=moved):
                    connection.alive_by = None
                    due_at = now + EVERY * (number / count)
                    plans[ref] = Plan(due_at, forced=False, reason="fresh again: the request budget allows it")
                rows.move(session, plans, [connection for _, connection in locked])
            moved += len(locked)
        return moved


def _alive_plan(connection: ConnectionState, policy: RefreshPolicy, now: datetime) -> Plan:
    deadlines = Deadlines(grant_at=connection.grant_expires_at, renewed_at=connection.renewed_at)
    plan = alive_plan(
        now=now,
        expires_at=connection.told_expiry,
        identity=connection.id.hex,
        policy=policy,
        slot=connection.slot,
        deadlines=deadlines,
    )
    reason = f"{plan.reason}: the request budget does not keep all fresh"
    return Plan(plan.due_at, plan.forced, reason, plan.deadline_at, plan.keeps)


def _chunks(count: int) -> Iterator[int]:
    return (min(rows.CHUNK, count - start) for start in range(0, count, rows.CHUNK))


def _note(account: str, found: Balance, *, fallen: int, returned: int) -> None:
    for change, count in (("fell_back", fallen), ("returned", returned)):
        if count:
            REFRESHES_KEPT.labels(change).inc(count)
            facts = {"account": account, "connections": count, "due": found.due, "carried": int(found.carried)}
            log.warning("refreshes_kept", change=change, minutes=int(HORIZON / timedelta(minutes=1)), **facts)
