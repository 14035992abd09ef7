"""Ask Nango whether what its webhooks say is true: no transaction is open, and no credentials are read.

The list serves (CONTRACT 3.2): it refreshes nothing and returns no credentials. A few connections are asked for by id;
a burst of new ones is found together on the newest-first page.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Final

import httpx
from pydantic import SecretStr

from app.db.connections import Key
from app.deadlines import REFRESH_DEADLINE
from app.domain.budget import Priority
from app.domain.confirming import Absent, Look, Unavailable, View
from app.domain.linking import EndUser
from app.environments import Environment
from app.errors import NangoError, NangoRateLimited
from app.nango.client import MAX_LIMIT, NangoClient
from app.nango.types import ConnectionPage, ListedConnection
from app.services.budget import Budget
from app.telemetry import get_logger

CONNECT_SECONDS: Final = 5.0
ONE_BY_ONE: Final = 3  # up to this many connections are asked for by id without trying the newest page first

log = get_logger(__name__)


class NangoClients:
    """One pooled client per environment that has an API key, made on first use. Without a budget nothing is counted."""

    def __init__(self, environments: Mapping[str, Environment], budget: Budget | None = None) -> None:
        self._environments, self._budget = environments, budget
        self._clients: dict[str, NangoClient] = {}
        self._making = threading.Lock()

    def of(self, name: str, priority: Priority) -> NangoClient | None:
        """The environment's client, for calls of this priority; None without an API key, or when it is not configured
        any more. What the budget holds back raises NangoBudgetSpent, which is a NangoRateLimited."""
        environment = self._environments.get(name)
        if environment is None or environment.api_key is None:
            return None
        client = self._pooled(name, environment, environment.api_key)
        return client if self._budget is None else client.behind(self._budget.gate(environment.account, priority))

    def _pooled(self, name: str, environment: Environment, api_key: SecretStr) -> NangoClient:
        with self._making:  # eight threads of a wave ask at once, and a second client would never be closed
            if name not in self._clients:
                self._clients[name] = NangoClient(
                    base_url=environment.base_url,
                    api_key=api_key.get_secret_value(),
                    read_timeout=REFRESH_DEADLINE.total_seconds() - CONNECT_SECONDS,
                    connect_timeout=CONNECT_SECONDS,
                )
            return self._clients[name]

    def knows(self, name: str) -> bool:
        return name in self._environments

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if self._budget is not None:
            self._budget.close()


def look_up(client: NangoClient, environment: str, keys: Collection[Key], *, ends_at: float) -> dict[Key, Look]:
    """What Nango's list shows of each connection. Never raises: what could not be asked is Unavailable.

    ends_at: on the monotonic clock; the environments of one batch share one deadline.
    """
    looks: dict[Key, Look] = {}
    missing = sorted(keys)
    if len(missing) > ONE_BY_ONE:
        size = min(MAX_LIMIT, 50 + 2 * len(missing))
        newest = _ask(partial(client.list_connections, limit=size), ends_at)
        if isinstance(newest, Unavailable):
            return dict.fromkeys(missing, newest)
        shown = {(environment, one.integration, one.connection_id): one for one in newest.connections}
        looks = {key: view_of(shown[key], newest.observed_at) for key in missing if key in shown}
        missing = [key for key in missing if key not in looks]
    for position, key in enumerate(missing):
        page = _ask(partial(client.list_connections, connection_id=key[2]), ends_at)
        if isinstance(page, Unavailable):
            looks.update(dict.fromkeys(missing[position:], page))
            break
        found = [one for one in page.connections if one.integration == key[1]]
        looks[key] = view_of(found[0], page.observed_at) if found else Absent(page.observed_at)
    return looks


def _ask(call: Callable[..., ConnectionPage], ends_at: float) -> ConnectionPage | Unavailable:
    remaining = ends_at - time.monotonic()
    if remaining < 1:
        return Unavailable("no time left in this batch to ask Nango")
    try:
        return call(timeout=remaining)
    except NangoRateLimited as limited:
        return Unavailable(str(limited), retry_after=limited.retry_after)
    except (NangoError, httpx.HTTPError) as failed:
        log.warning("nango_not_asked", problem=str(failed))
        return Unavailable(str(failed))


def view_of(one: ListedConnection, observed_at: datetime) -> View:
    """What Nango's list showed, as judgement takes it."""
    return View(
        nango_id=one.id,
        tags=one.tags,
        end_user=_end_user(one),
        provider=one.provider,
        auth_failing=one.auth_errors,
        observed_at=observed_at,
    )


def _end_user(one: ListedConnection) -> EndUser | None:
    end_user = one.end_user
    if end_user is None:
        return None
    organization = end_user.organization
    return EndUser(
        id=end_user.id,
        email=end_user.email,
        display_name=end_user.display_name,
        organization_id=organization.id if organization else None,
        organization_name=organization.display_name if organization else None,
    )
