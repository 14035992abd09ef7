"""Clients for calls to Nango: one per environment, shared by the process."""

import threading
from collections.abc import Mapping
from typing import Final

from pydantic import SecretStr

from app.config.nango_environment import Environment
from app.deadlines import REFRESH_DEADLINE
from app.domain.budget import DEFAULT_LIMIT, Priority
from app.nango.client import NangoClient
from app.services.budget import Budget

CONNECT_SECONDS: Final = 5.0


class NangoClients:
    """One pooled client per environment with an API key, made on first use. Without a budget, calls are not limited."""

    def __init__(self, environments: Mapping[str, Environment], budget: Budget | None = None) -> None:
        self._environments, self._budget = environments, budget
        self._clients: dict[str, NangoClient] = {}
        self._making = threading.Lock()

    def of(self, name: str, priority: Priority) -> NangoClient | None:
        """The environment's client for calls of this priority; None without an API key, or for an unknown environment.

        A call that the budget holds back raises NangoBudgetSpent, which is a NangoRateLimited.
        """
        environment = self._environments.get(name)
        if environment is None or environment.api_key is None:
            return None
        client = self._pooled(name, environment, environment.api_key)
        return client if self._budget is None else client.behind(self._budget.gate(environment.account, priority))

    def _pooled(self, name: str, environment: Environment, api_key: SecretStr) -> NangoClient:
        with self._making:  # eight threads of a batch may call at once, and a second client would never be closed
            if name not in self._clients:
                self._clients[name] = NangoClient(
                    base_url=environment.base_url,
                    api_key=api_key.get_secret_value(),
                    read_timeout=REFRESH_DEADLINE.total_seconds() - CONNECT_SECONDS,
                    connect_timeout=CONNECT_SECONDS,
                    proxy=environment.proxy.get_secret_value() if environment.proxy else None,
                )
            return self._clients[name]

    def limit_of(self, account: str) -> int:
        """The account's requests per minute, as far as they are known."""
        return DEFAULT_LIMIT if self._budget is None else self._budget.limit_of(account)

    def knows(self, name: str) -> bool:
        return name in self._environments

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if self._budget is not None:
            self._budget.close()
