"""The refresher of a process: its store is the database, and it asks Nango."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import httpx

from app.db.engine import Database
from app.deadlines import REFRESH_DEADLINE
from app.domain.budget import Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh
from app.domain.refreshing.policy import RefreshPolicy
from app.domain.states import RefreshOutcome
from app.errors import InvalidInput, NangoError
from app.nango.client import NangoClient
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.refreshing.outage_watch import OutageWatch
from app.services.refreshing.refresh_results import failed, succeeded
from app.services.refreshing.refresh_store import DatabaseStore
from app.services.refreshing.refresher import WAVE, Refresher
from app.services.routing.cache import RouteCache

SHORTEST_FORCED: Final = 15.0  # seconds for a forced call: the provider may take most of them


def refresher_of(
    database: Database, policy: Policy, clients: NangoClients, clock: Callable[[], datetime], routes: RouteCache
) -> Refresher:
    """The refresher of this process, with threads of its own."""

    def policy_of(claimed: ClaimedRefresh) -> RefreshPolicy | None:
        return policy.refresh_of(claimed.environment, claimed.integration, claimed.provider)

    pool = ThreadPoolExecutor(WAVE, thread_name_prefix="refresh")
    return Refresher(
        DatabaseStore(database, policy, routes, OutageWatch(database)),
        NangoAsk(clients, policy),
        policy_of,
        clock,
        pool,
    )


@dataclass(frozen=True, slots=True)
class NangoAsk:
    """One GET for a claimed refresh, or a plain one and then a forced one, within REFRESH_DEADLINE."""

    clients: NangoClients
    policy: Policy

    def __call__(self, claimed: ClaimedRefresh, priority: Priority) -> Answer | None:
        client = self.clients.of(claimed.environment, priority)
        if client is None:
            return None
        ends_at = time.monotonic() + REFRESH_DEADLINE.total_seconds()
        if claimed.looks_first(now=client.now()):
            looked = replace(self._get(client, claimed, forced=False), only_looked=True)
            if looked.outcome is not RefreshOutcome.UNCHANGED or ends_at - time.monotonic() < SHORTEST_FORCED:
                return looked
        return self._get(client, claimed, forced=claimed.forces, timeout=ends_at - time.monotonic())

    def _get(
        self, client: NangoClient, claimed: ClaimedRefresh, *, forced: bool, timeout: float | None = None
    ) -> Answer:
        asked_at, named = client.now(), (claimed.integration, claimed.connection_id)
        try:
            detail = client.renew_token(*named, force_refresh=forced, timeout=timeout)
        except (NangoError, InvalidInput, httpx.HTTPError) as problem:
            return failed(problem, asked_at=asked_at, answered_at=client.now())
        return succeeded(
            detail,
            asked_at=asked_at,
            answered_at=client.now(),
            previous_expires_at=claimed.facts.told_expiry,
            was_forced=forced,
            renewed_at=claimed.facts.renewed_at,
            lives=self.policy.refresh.lives_of(claimed.environment, claimed.integration, claimed.provider),
        )
