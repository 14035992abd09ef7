"""Plans and connections of the refresher in the database.

Opens short transactions, none of them while Nango is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import refreshes as refresh_rows
from app.db import repairs as repair_rows
from app.db.connections import ConnectionState
from app.db.engine import Database
from app.deadlines import REFRESH_LEASE
from app.domain.confirming import Absent
from app.domain.event import EventType
from app.domain.own_event import OwnEvent
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.conclusion import Conclusion
from app.domain.refreshing.facts import ClaimedRefresh
from app.domain.refreshing.outcomes import SUCCESSES, TOKEN_EXPIRED
from app.domain.refreshing.plan import Plan, urgent_at
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.routing import RouteSet
from app.domain.states import Origin, RefreshOutcome
from app.ids import CONNECTION, show
from app.services import own_events
from app.services.policy import Policy
from app.services.refreshing import integration_limits
from app.services.refreshing.announcing import emit
from app.services.refreshing.outage_watch import OutageWatch, excused
from app.services.refreshing.refresher import AnsweredRefresh, Conclude
from app.services.routing.cache import RouteCache
from app.telemetry import get_logger

MOST_HELD: Final = 500  # claims in a row of which a pause holds all

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DatabaseStore:
    """A `RefreshStore`."""

    database: Database
    policy: Policy
    routes: RouteCache
    watch: OutageWatch

    def claim(self, *, limit: int, now: datetime) -> Sequence[ClaimedRefresh]:
        for _ in range(MOST_HELD):
            with self.database.write() as session:
                taken = refresh_rows.claim(session, limit=limit, now=now, lease=REFRESH_LEASE)
                kept = self.watch.keep(session, taken, now=now)
                kept = integration_limits.keep(session, kept, self._policy_of, now=now)
            if kept or not taken:
                return kept
        return []

    def _policy_of(self, claimed: ClaimedRefresh) -> RefreshPolicy | None:
        return self.policy.refresh_of(claimed.environment, claimed.integration, claimed.provider)

    def record(self, answered: Sequence[AnsweredRefresh], conclude: Conclude, *, now: datetime) -> None:
        routes = self.routes.current(self.database)
        answers = {one.claimed.id: one.answer for one in answered}
        with self.database.write() as session:
            for one in answered:
                answers[one.claimed.id] = excused(session, one.claimed, one.answer)
            record = _Record(session, self.policy, routes, now)
            locked = refresh_rows.lock(session, [one.claimed for one in answered])
            record.number([connection for one, connection in locked if answers[one.id].outcome in SUCCESSES])
            for claimed, connection in locked:
                answer = answers[claimed.id]
                record.add(claimed, connection, answer, conclude(claimed, connection.refresh_facts, answer))
            record.write()
        self.watch.observe(answered, now=now)


@dataclass(slots=True)
class _Record:
    """The rows that a transaction writes, collected."""

    session: Session
    policy: Policy
    routes: RouteSet
    now: datetime
    refreshes: list[dict[str, Any]] = field(default_factory=list)
    connections: list[ConnectionState] = field(default_factory=list)
    plans: dict[UUID, Plan] = field(default_factory=dict)
    failures: dict[UUID, int] = field(default_factory=dict)

    def number(self, connections: Sequence[ConnectionState]) -> None:
        """Give numbers to those without one."""
        without = [connection for connection in connections if connection.slot is None]
        if without:
            slots = refresh_rows.next_slots(self.session, len(without))
            for connection, slot in zip(without, slots, strict=True):
                connection.slot = slot

    def add(self, claimed: ClaimedRefresh, connection: ConnectionState, answer: Answer, conclusion: Conclusion) -> None:
        if conclusion.stays_open and conclusion.plan is not None:
            self.refreshes.append(_waiting(claimed, answer, conclusion.plan))
            return
        self.refreshes.append(_finished(claimed, connection, answer, conclusion, self.now))
        if answer.outcome is RefreshOutcome.SUPERSEDED:
            return
        news = _news(connection, answer, self.now)
        connection.take_over(conclusion.facts)
        connection.updated_at = self.now
        _log(connection, answer, conclusion, self.now)
        for kind, error in conclusion.told:
            if kind is EventType.CONNECTION_NEEDS_RECONNECT:
                repair_rows.open_case(self.session, connection, cause=error.type, now=self.now)
        emit(self.session, connection, conclusion.told, self.policy, self.routes, now=self.now)
        own_events.store(self.session, news, environment=connection.environment, origin=Origin.REFRESH, now=self.now)
        self.connections.append(connection)
        if conclusion.plan is not None:
            self.plans[connection.id], self.failures[connection.id] = conclusion.plan, conclusion.failures

    def write(self) -> None:
        """Write closed plans before opened ones: the schema allows one open plan per connection."""
        refresh_rows.write(self.session, self.refreshes)
        connection_rows.update(self.session, self.connections)
        refresh_rows.plan(self.session, self.plans, failures=self.failures, now=self.now)


def _waiting(claimed: ClaimedRefresh, answer: Answer, plan: Plan) -> dict[str, Any]:
    """The same plan, due again, with its attempts at zero."""
    return {
        "id": claimed.id,
        "next_at": plan.due_at,
        "urgent_at": urgent_at(plan.due_at, claimed.deadline_at, claimed.keeps),
        "forced": plan.forced,
        "attempts": 0,
        "outcome": answer.outcome,
        "error": answer.error,
    }


def _finished(
    claimed: ClaimedRefresh, connection: ConnectionState, answer: Answer, conclusion: Conclusion, now: datetime
) -> dict[str, Any]:
    """The closed plan. connection: as it was before the answer."""
    seen = answer.outcome in SUCCESSES
    return {
        "id": claimed.id,
        "finished_at": now,
        "asked_at": answer.asked_at,
        "answered_at": answer.answered_at,
        "outcome": answer.outcome,
        "error": conclusion.error,
        "previous_expires_at": connection.told_expiry,
        "expires_at": answer.expires_at,
        "previous_grant_expires_at": connection.grant_expires_at,
        "grant_expires_at": conclusion.facts.grant_expires_at if seen else None,
    }


def _news(connection: ConnectionState, answer: Answer, now: datetime) -> list[OwnEvent]:
    """Events of further changes that the answer shows: other tags, a new generation, a deletion."""
    if answer.asked_at is None:
        return []
    lookup = Absent(answer.asked_at) if answer.is_gone else answer.snapshot
    if lookup is None:
        return []
    return own_events.news_in(connection, lookup, asked_at=answer.asked_at, token_lives=answer.token_lives(now))


def _log(connection: ConnectionState, answer: Answer, conclusion: Conclusion, now: datetime) -> None:
    shown = show(CONNECTION, connection.id)
    for kind, error in conclusion.told:
        if kind is EventType.TOKEN_EXPIRING:
            log.warning("token_expiring", connection=shown, problem=error.description)
    if connection.last_error_type == TOKEN_EXPIRED and connection.last_error_at == now:
        log.warning("token_expired", connection=shown, problem=conclusion.error)
    if answer.outcome not in SUCCESSES:
        log.warning("refresh_failed", connection=shown, problem=answer.error)
