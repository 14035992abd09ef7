"""The refresher of a process: its store is the database, and it asks Nango."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import httpx

from app.db.engine import Database
from app.domain.budget import Priority
from app.domain.refreshing.answer import Answer
from app.domain.refreshing.facts import ClaimedRefresh
from app.domain.refreshing.policy import RefreshPolicy
from app.errors import InvalidInput, NangoError
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.refreshing.outage_watch import OutageWatch
from app.services.refreshing.refresh_results import failed, succeeded
from app.services.refreshing.refresh_store import DatabaseStore
from app.services.refreshing.refresher import WAVE, Refresher
from app.services.routing.cache import RouteCache


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
    """One GET for a claimed refresh."""

    clients: NangoClients
    policy: Policy

    def __call__(self, claimed: ClaimedRefresh, priority: Priority) -> Answer | None:
        client = self.clients.of(claimed.environment, priority)
        if client is None:
            return None
        asked_at = client.now()
        try:
            detail = client.renew_token(claimed.integration, claimed.connection_id, force_refresh=claimed.forces)
        except (NangoError, InvalidInput, httpx.HTTPError) as problem:
            return failed(problem, asked_at=asked_at, answered_at=client.now())
        return succeeded(
            detail,
            asked_at=asked_at,
            answered_at=client.now(),
            previous_expires_at=claimed.facts.told_expiry,
            was_forced=claimed.forces,
            renewed_at=claimed.facts.renewed_at,
            lives=self.policy.refresh.lives_of(claimed.environment, claimed.integration, claimed.provider),
        )
