"""Keep tokens fresh: claim due plans, GET the connection, record what it said of the expiry and forget the rest.

No transaction is open while Nango is asked, and no credential outlives the call (promises 7 and 8).
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
from app.db.connections import ConnectionRow
from app.db.engine import Database
from app.db.errors import is_away
from app.db.models import Connection, Refresh
from app.deadlines import MAX_CLAIMS, REFRESH_LEASE
from app.domain.budget import SOON, Priority
from app.domain.confirming import Absent
from app.domain.event import EventError, EventType
from app.domain.own_event import OwnEvent
from app.domain.refresh import CRASHED, TOKEN_EXPIRED, Plan, RefreshPolicy, has_lapsed, next_plan
from app.domain.routing import RouteSet
from app.domain.states import ConnectionStatus, Origin, RefreshOutcome
from app.errors import InvalidInput, NangoError
from app.ids import CONNECTION, REFRESH, show
from app.nango.client import NangoClient
from app.services import own_events
from app.services.directory import Directory
from app.services.linking.links import Links
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.refreshing.refresh_results import SUCCESSES, Answer, failed, succeeded
from app.services.routing.cache import RouteCache
from app.services.routing.precomputed_matches import Matches
from app.services.routing.router import Router
from app.telemetry import REFRESHES, get_logger

WAVE: Final = 8  # GETs at the same time in one process

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A due plan, as it was when taken."""

    refresh: Refresh
    connection: Connection

    @property
    def forced(self) -> bool:
        """A forced call is never repeated blindly: after a crash a plain GET tells what became of it (promise 1)."""
        return self.refresh.forced and self.refresh.attempts == 1

    def priority(self, *, now: datetime) -> Priority:
        expires_at, lapsed = self.connection.expires_at, self.connection.last_error_type == TOKEN_EXPIRED
        soon = expires_at is not None and expires_at <= now + timedelta(seconds=SOON) and not lapsed
        return Priority.REFRESH_SOON if soon else Priority.REFRESH


@dataclass(frozen=True, slots=True)
class Refresher:
    """What a worker needs to carry out refreshes; made once per process."""

    database: Database
    policy: Policy
    clients: NangoClients
    clock: Callable[[], datetime]
    routes: RouteCache

    def refresh_due(self, *, limit: int = WAVE) -> int:
        """Carry out up to `limit` due plans at the same time. Returns how many were taken, or 0 when Nango could be
        asked about none of them now: then there is no use in going on with the next ones at once."""
        with self.database.write() as session:
            taken = refresh_rows.claim(session, limit=limit, now=self.clock(), lease=REFRESH_LEASE)
        claimed = [Claimed(refresh, connection) for refresh, connection in taken]
        if not claimed:
            return 0
        with ThreadPoolExecutor(len(claimed), thread_name_prefix="refresh") as pool:
            outcomes = set(pool.map(self._carry_out_alone, claimed))
        return 0 if outcomes == {RefreshOutcome.WAITED} else len(claimed)

    def _carry_out_alone(self, claimed: Claimed) -> RefreshOutcome | None:
        """A fault ends with its own plan, which is due again when its lease ends. None for a fault."""
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

    def _carry_out(self, claimed: Claimed) -> RefreshOutcome:
        client = self.clients.of(claimed.connection.environment, claimed.priority(now=self.clock()))
        if claimed.refresh.attempts > MAX_CLAIMS:
            reason = f"claimed {MAX_CLAIMS} times without a result"
            answer = Answer(RefreshOutcome.FAILED, error=reason, error_type=CRASHED)
        elif client is None or self._policy_of(claimed) is None:
            reason = "its integration is not refreshed any more, or its environment has no API key"
            answer = Answer(RefreshOutcome.SUPERSEDED, error=reason)
        else:
            asked_at = client.now()
            answer = replace(self._ask(client, claimed), asked_at=asked_at)
        REFRESHES.labels(answer.outcome).inc()
        routes = self.routes.current(self.database)
        with self.database.write() as session:
            self._record(session, claimed, answer, routes)
        return answer.outcome

    def _ask(self, client: NangoClient, claimed: Claimed) -> Answer:
        connection = claimed.connection
        try:
            detail = client.get_connection(
                connection.integration, connection.connection_id, force_refresh=claimed.forced
            )
        except (NangoError, InvalidInput, httpx.HTTPError) as problem:
            return failed(problem)
        return succeeded(detail, previous_expires_at=connection.expires_at)

    def _record(self, session: Session, claimed: Claimed, answer: Answer, routes: RouteSet) -> None:
        now = self.clock()
        locked = refresh_rows.lock(session, claimed.refresh.id)
        if locked is None or locked[0].attempts != claimed.refresh.attempts:
            return  # superseded, or our lease ran out: what happened since is newer
        refresh, connection = locked
        plan = self._plan(claimed, answer, now)
        if answer.outcome is RefreshOutcome.WAITED and plan is not None:
            # Nothing was learnt: the same plan stays open, and waiting is a result.
            refresh.next_at, refresh.forced, refresh.attempts = plan.due_at, plan.forced, 0
            refresh.outcome, refresh.error = answer.outcome, answer.error
            return
        refresh.finished_at, refresh.outcome, refresh.error = now, answer.outcome, answer.error
        if answer.outcome is RefreshOutcome.SUPERSEDED:
            return  # Nango was not asked
        refresh.expires_at, refresh.previous_expires_at = answer.expires_at, connection.expires_at
        lapsed = _lapsed(claimed, answer, now)
        refresh.error = lapsed.description if lapsed else refresh.error
        refresh_rows.save(session, refresh)
        found = _found(connection, answer, now)
        if reason := self._show(connection, answer, now, lapsed=lapsed):
            self._give_up(session, connection, reason, routes, now)
        connection_rows.update(session, [connection])
        own_events.store(session, found, environment=connection.environment, origin=Origin.REFRESH, now=now)
        if plan is not None:
            failures = refresh.failures + 1 if answer.outcome is RefreshOutcome.FAILED else 0
            refresh_rows.plan(session, {connection.id: plan}, failures=failures, now=now)

    def _plan(self, claimed: Claimed, answer: Answer, now: datetime) -> Plan | None:
        connection, policy = claimed.connection, self._policy_of(claimed)
        if policy is None:
            return None
        return next_plan(
            now=now,
            outcome=answer.outcome,
            expires_at=answer.expires_at,
            previous_expires_at=connection.expires_at,
            consecutive_failures=claimed.refresh.failures + 1,
            retry_after=answer.retry_after,
            auth_mode=connection.auth_mode or "",
            identity=connection.id.hex,
            policy=policy,
            was_forced=claimed.forced,
            lapsed=connection.last_error_type == TOKEN_EXPIRED,
        )

    def _policy_of(self, claimed: Claimed) -> RefreshPolicy | None:
        return self.policy.refresh_of(claimed.connection.environment, claimed.connection.integration)

    def _show(
        self, connection: ConnectionRow, answer: Answer, now: datetime, *, lapsed: EventError | None
    ) -> EventError | None:
        """Note on the connection what the answer means for it. Returns the reason if its user has to connect again."""
        connection.updated_at = now
        if answer.expires_at is not None or answer.outcome is RefreshOutcome.NO_EXPIRY:
            connection.expires_at = answer.expires_at
        if connection.errors_seen_at and answer.asked_at and answer.asked_at < connection.errors_seen_at:
            return None  # something newer was seen of its errors while Nango was asked
        connection.errors_seen_at = answer.asked_at or connection.errors_seen_at
        if answer.outcome in SUCCESSES:
            if connection.last_error_type == CRASHED:
                connection.last_error_type = connection.last_error_at = None
            if lapsed:
                connection.last_error_type, connection.last_error_at = lapsed.type, now
                log.warning("token_expired", connection=show(CONNECTION, connection.id), problem=lapsed.description)
            return lapsed  # that an error is gone is an event, which clears it
        # Our crashes do not hide an error of Nango's, whose end is told.
        if answer.error_type != CRASHED or connection.last_error_type is None:
            connection.last_error_type, connection.last_error_at = answer.error_type, now
        log.warning("refresh_failed", connection=show(CONNECTION, connection.id), problem=answer.error)
        if answer.outcome is not RefreshOutcome.EXHAUSTED:
            return None
        return EventError(answer.error_type, answer.error or "")

    def _give_up(
        self, session: Session, connection: ConnectionRow, reason: EventError, routes: RouteSet, now: datetime
    ) -> None:
        """Its end user has to connect again; the teams are told of it once."""
        if connection.status == ConnectionStatus.NEEDS_RECONNECT:
            return
        connection.status = ConnectionStatus.NEEDS_RECONNECT
        links = Links(session, now=now)
        links.load([connection.id])
        directory = Directory(session, policy=self.policy.directory, now=now)
        directory.load_owners(links.all())
        router = Router(Matches(routes), directory, now=now)
        router.emit(
            EventType.CONNECTION_NEEDS_RECONNECT,
            connection,
            owner=links.owner_of(connection),
            confirmed=True,
            origin=Origin.REFRESH,
            error=reason,
        )
        router.write(session)


def _lapsed(claimed: Claimed, answer: Answer, now: datetime) -> EventError | None:
    """What is wrong, where this answer is the first to show that the token has expired for good."""
    mode = claimed.connection.auth_mode or ""
    if claimed.connection.last_error_type == TOKEN_EXPIRED or not has_lapsed(
        now=now, outcome=answer.outcome, expires_at=answer.expires_at, auth_mode=mode, was_forced=claimed.forced
    ):
        return None
    expired = f"{answer.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    return EventError(TOKEN_EXPIRED, f"its token expired at {expired}, and asking Nango did not renew it")


def _found(connection: ConnectionRow, answer: Answer, now: datetime) -> list[OwnEvent]:
    if answer.asked_at is None:
        return []
    lookup = Absent(answer.asked_at) if answer.is_gone else answer.snapshot
    if lookup is None:
        return []
    return own_events.news_in(connection, lookup, asked_at=answer.asked_at, token_lives=answer.token_lives(now))
