"""The refresher: claims due plans, GETs each connection, and records the new expiry or the error.

No transaction is open during a call to Nango, and no credential is kept after it (promises 7 and 8).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import httpx
from sqlalchemy.orm import Session

from app.db import connections as connection_rows
from app.db import refreshes as refresh_rows
from app.db.connections import ConnectionState
from app.db.engine import Database
from app.db.errors import is_away
from app.db.models import Connection, Refresh
from app.deadlines import MAX_CLAIMS, REFRESH_LEASE
from app.domain.budget import SOON, Priority
from app.domain.confirming import Absent
from app.domain.event import EventError, EventType
from app.domain.own_event import OwnEvent
from app.domain.refreshing.clocks import told_expiry
from app.domain.refreshing.outcomes import CRASHED, REFUSALS, TOKEN_EXPIRED, WAITS, has_lapsed
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.policy import RefreshPolicy, RefreshPriority
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus, Origin, RefreshOutcome
from app.errors import InvalidInput, NangoError
from app.ids import CONNECTION, REFRESH, show
from app.nango.client import NangoClient
from app.services import own_events
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.refreshing.announcing import clock_state, due_announcements, emit
from app.services.refreshing.planning import plan_after
from app.services.refreshing.refresh_results import SUCCESSES, GetResult, failed, note_times, succeeded
from app.services.routing.cache import RouteCache
from app.telemetry import REFRESHES, get_logger

WAVE: Final = 8  # concurrent GETs of a process

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClaimedRefresh:
    """A claimed plan and its connection, as read by the claim."""

    refresh: Refresh
    connection: Connection

    @property
    def forced(self) -> bool:
        """Whether to force: on the first claim only. After a crash a plain GET shows the call's result (promise 1)."""
        return self.refresh.forced and self.refresh.attempts == 1

    @property
    def told_expiry(self) -> datetime | None:
        """The expiry as Nango knew it before; None where it was estimated."""
        return told_expiry(self.connection.expires_at, self.connection.expires_source)

    def priority(self, wanted: RefreshPriority, *, now: datetime) -> Priority:
        """The priority of the call: higher within SOON of the expiry, unless the policy wants another."""
        expires_at, lapsed = self.told_expiry, self.connection.last_error_type == TOKEN_EXPIRED
        soon = expires_at is not None and expires_at <= now + timedelta(seconds=SOON) and not lapsed
        urgent = {RefreshPriority.HIGH: True, RefreshPriority.NORMAL: soon, RefreshPriority.LOW: False}[wanted]
        return Priority.REFRESH_SOON if urgent else Priority.REFRESH


@dataclass(frozen=True, slots=True)
class Refresher:
    """Carries out planned refreshes; one per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    routes: RouteCache

    def refresh_due(self, *, limit: int = WAVE) -> int:
        """Carry out up to `limit` due plans concurrently.

        Returns their count, or 0 where Nango answered none of them, so that the caller pauses.
        """
        with self.database.write() as session:
            taken = refresh_rows.claim(session, limit=limit, now=self.clock(), lease=REFRESH_LEASE)
        claimed = [ClaimedRefresh(refresh, connection) for refresh, connection in taken]
        if not claimed:
            return 0
        with ThreadPoolExecutor(len(claimed), thread_name_prefix="refresh") as pool:
            outcomes = set(pool.map(self._carry_out_alone, claimed))
        return 0 if outcomes <= WAITS else len(claimed)

    def _carry_out_alone(self, claimed: ClaimedRefresh) -> RefreshOutcome | None:
        """Carry out a plan and log its fault: it is due again when its lease ends. Returns None for a fault."""
        try:
            return self._carry_out(claimed)
        except Exception as fault:
            if is_away(fault):
                raise
            names = {
                "refresh": show(REFRESH, claimed.refresh.id),
                "connection": show(CONNECTION, claimed.connection.id),
            }
            log.exception("refresh_fault", **names)
            return None

    def _carry_out(self, claimed: ClaimedRefresh) -> RefreshOutcome:
        policy = self._policy_of(claimed)
        wanted = policy.priority if policy else RefreshPriority.NORMAL
        client = self.clients.of(claimed.connection.environment, claimed.priority(wanted, now=self.clock()))
        if claimed.refresh.attempts > MAX_CLAIMS:
            reason = f"claimed {MAX_CLAIMS} times without a result"
            answer = GetResult(RefreshOutcome.FAILED, error=reason, error_type=CRASHED)
        elif client is None or policy is None:
            reason = "its integration is not refreshed any more, or its environment has no API key"
            answer = GetResult(RefreshOutcome.SUPERSEDED, error=reason)
        else:
            asked_at = client.now()
            answer = replace(self._ask(client, claimed), asked_at=asked_at)
        REFRESHES.labels(answer.outcome).inc()
        routes = self.routes.current(self.database)
        with self.database.write() as session:
            self._record(session, claimed, answer, routes)
        return answer.outcome

    def _ask(self, client: NangoClient, claimed: ClaimedRefresh) -> GetResult:
        connection = claimed.connection
        try:
            detail = client.renew_token(connection.integration, connection.connection_id, force_refresh=claimed.forced)
        except (NangoError, InvalidInput, httpx.HTTPError) as problem:
            return failed(problem)
        return succeeded(
            detail,
            previous_expires_at=claimed.told_expiry,
            was_forced=claimed.forced,
            renewed_at=connection.renewed_at,
            lives=self.policy.refresh.lives_of(connection.environment, connection.integration, connection.provider),
        )

    def _record(self, session: Session, claimed: ClaimedRefresh, answer: GetResult, routes: RouteSet) -> None:
        now = self.clock()
        locked = refresh_rows.lock(session, claimed.refresh.id)
        if locked is None or locked[0].attempts != claimed.refresh.attempts:
            return  # superseded, or the lease ended: another result is newer
        refresh, connection = locked
        previous_expires_at, previous_grant_at = connection.told_expiry, connection.grant_expires_at
        note_times(connection, answer, self.policy, was_forced=claimed.forced)
        if connection.slot is None and answer.outcome in SUCCESSES:
            connection.slot = refresh_rows.next_slot(session)
        expiring = self._expiring(claimed, connection, answer, previous_grant_at, now)
        plan = self._plan(claimed, connection, answer, now)
        if answer.outcome in WAITS and plan is not None:
            # Without a result of the connection the same plan stays open, with its attempts at zero.
            refresh.next_at, refresh.forced, refresh.attempts = plan.due_at, plan.forced, 0
            refresh.outcome, refresh.error = answer.outcome, answer.error
            return
        refresh.finished_at, refresh.outcome, refresh.error = now, answer.outcome, answer.error
        if answer.outcome is RefreshOutcome.SUPERSEDED:
            return  # no call was made
        refresh.expires_at, refresh.previous_expires_at = answer.expires_at, previous_expires_at
        lapsed = _lapsed(claimed, answer, now)
        refresh.error = lapsed.description if lapsed else refresh.error
        refresh_rows.save(session, refresh)
        events = _events(connection, answer, now)
        reason = self._record_on_connection(connection, answer, now, lapsed=lapsed)
        told = [(EventType.TOKEN_EXPIRING, error) for error in expiring]
        if reason and connection.status != ConnectionStatus.NEEDS_RECONNECT:
            connection.status = ConnectionStatus.NEEDS_RECONNECT
            told.append((EventType.CONNECTION_NEEDS_RECONNECT, reason))
        emit(session, connection, told, self.policy, routes, now=now)
        connection_rows.update(session, [connection])
        own_events.store(session, events, environment=connection.environment, origin=Origin.REFRESH, now=now)
        if plan is not None:
            failures = refresh.failures + 1 if answer.outcome in REFUSALS else 0
            refresh_rows.plan(session, {connection.id: plan}, failures=failures, now=now)

    def _plan(
        self, claimed: ClaimedRefresh, connection: ConnectionState, answer: GetResult, now: datetime
    ) -> Plan | None:
        """The next plan. connection: with what the answer showed."""
        policy = self._policy_of(claimed)
        if policy is None:
            return None
        return plan_after(
            connection,
            answer,
            policy,
            now=now,
            previous_expires_at=claimed.told_expiry,
            failures=claimed.refresh.failures + 1,
            was_forced=claimed.forced,
            lapsed=claimed.connection.last_error_type == TOKEN_EXPIRED,
        )

    def _expiring(
        self,
        claimed: ClaimedRefresh,
        connection: ConnectionState,
        answer: GetResult,
        previous_grant_at: datetime | None,
        now: datetime,
    ) -> list[EventError]:
        """The deadlines of the connection to announce, after an answer that showed its token."""
        policy = self._policy_of(claimed)
        if policy is None or answer.outcome not in SUCCESSES or connection.status != ConnectionStatus.ACTIVE:
            return []
        renewed = answer.outcome is RefreshOutcome.RENEWED
        state = clock_state(connection, previous_grant_at=previous_grant_at, has_renewed=renewed)
        return due_announcements(connection, policy, state, now=now)

    def _policy_of(self, claimed: ClaimedRefresh) -> RefreshPolicy | None:
        connection = claimed.connection
        return self.policy.refresh_of(connection.environment, connection.integration, connection.provider)

    def _record_on_connection(
        self, connection: ConnectionState, answer: GetResult, now: datetime, *, lapsed: EventError | None
    ) -> EventError | None:
        """Record the error on the connection. Returns the reason if its end user must re-authorize, or None."""
        connection.updated_at = now
        if connection.errors_seen_at and answer.asked_at and answer.asked_at < connection.errors_seen_at:
            return None  # its errors were seen by another call that was sent later
        connection.errors_seen_at = answer.asked_at or connection.errors_seen_at
        if answer.outcome in SUCCESSES:
            if connection.last_error_type == CRASHED:
                connection.last_error_type = connection.last_error_at = None
            if lapsed:
                connection.last_error_type, connection.last_error_at = lapsed.type, now
                log.warning("token_expired", connection=show(CONNECTION, connection.id), problem=lapsed.description)
            return lapsed  # an error that is over is cleared by its event
        # A crash does not replace an error of Nango's, whose end is announced.
        if answer.error_type != CRASHED or connection.last_error_type is None:
            connection.last_error_type, connection.last_error_at = answer.error_type, now
        log.warning("refresh_failed", connection=show(CONNECTION, connection.id), problem=answer.error)
        if answer.outcome is not RefreshOutcome.EXHAUSTED:
            return None
        return EventError(answer.error_type, answer.error or "")


def _lapsed(claimed: ClaimedRefresh, answer: GetResult, now: datetime) -> EventError | None:
    """The error, where this answer is the first to show that the token has expired for good; else None."""
    mode = claimed.connection.auth_mode or ""
    if claimed.connection.last_error_type == TOKEN_EXPIRED or not has_lapsed(
        now=now, outcome=answer.outcome, expires_at=answer.expires_at, auth_mode=mode, was_forced=claimed.forced
    ):
        return None
    expired = f"{answer.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return EventError(TOKEN_EXPIRED, f"its token expired at {expired}, and asking Nango did not renew it")


def _events(connection: ConnectionState, answer: GetResult, now: datetime) -> list[OwnEvent]:
    """Events of further changes that the answer shows: other tags, a new generation, a deletion."""
    if answer.asked_at is None:
        return []
    lookup = Absent(answer.asked_at) if answer.is_gone else answer.snapshot
    if lookup is None:
        return []
    return own_events.news_in(connection, lookup, asked_at=answer.asked_at, token_lives=answer.token_lives(now))
