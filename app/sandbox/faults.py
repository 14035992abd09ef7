"""Configured faults: rules that make matching operations fail or slow.

A rule has an operation and optionally an integration and a connection; it applies to every matching call, to the next
`times` of them, or to a share of them. AUTHORIZE and REFRESH are evaluated where a provider would answer, the others
once a call has passed the checks of key, rate limit and scope.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    AUTHORIZE = "authorize"  # the provider refuses the end user's credentials or code
    REFRESH = "refresh"  # the provider refuses to renew a token
    ANY_CALL = "any_call"  # any of the following
    LIST_CONNECTIONS = "list_connections"
    GET_CONNECTION = "get_connection"
    DELETE_CONNECTION = "delete_connection"
    PATCH_CONNECTION = "patch_connection"
    IMPORT_CONNECTION = "import_connection"
    SET_METADATA = "set_metadata"
    UPDATE_METADATA = "update_metadata"
    CREATE_CONNECT_SESSION = "create_connect_session"
    CREATE_RECONNECT_SESSION = "create_reconnect_session"
    LIST_INTEGRATIONS = "list_integrations"
    GET_INTEGRATION = "get_integration"


OF_PROVIDERS: Final = frozenset({Operation.AUTHORIZE, Operation.REFRESH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`rate`: the share of matching calls that it applies to. `delay`: seconds before the answer.

    status, code, message: the answer to a matched call; with a delay and no status the call is only slowed down.
    retry_after: seconds, for 429. For providers, `message` is the provider's. ends_at: when the rule is over.
    """

    operation: Operation
    integration: str | None = None
    connection_id: str | None = None
    times: int | None = None
    rate: float = 1.0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: int | None = None
    delay: float = 0.0
    ends_at: datetime | None = None

    def covers(self, operation: Operation, *, integration: str | None, connection_id: str | None) -> bool:
        any_call = self.operation is Operation.ANY_CALL and operation not in OF_PROVIDERS
        return (
            (any_call or self.operation == operation)
            and self.integration in {None, integration}
            and self.connection_id in {None, connection_id}
        )


class Faults:
    """The rules, oldest first; the first that matches a call applies. `chance` returns numbers in [0, 1)."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self.rules: tuple[Rule, ...] = ()
        self._chance = chance

    def add(self, rule: Rule) -> None:
        self.rules = (*self.rules, rule)

    def clear(self, *, operation: Operation | None, integration: str | None, connection_id: str | None) -> int:
        """Remove the rules with exactly these values; None stands for any. Returns their number."""

        def meant(rule: Rule) -> bool:
            return (
                operation in {None, rule.operation}
                and integration in {None, rule.integration}
                and connection_id in {None, rule.connection_id}
            )

        before = len(self.rules)
        self.rules = tuple(rule for rule in self.rules if not meant(rule))
        return before - len(self.rules)

    def live(self, now: datetime) -> tuple[Rule, ...]:
        """The rules that are not over."""
        self.rules = tuple(rule for rule in self.rules if rule.ends_at is None or now < rule.ends_at)
        return self.rules

    def match(
        self, operation: Operation, *, integration: str | None, connection_id: str | None, now: datetime
    ) -> Rule | None:
        """The rule that applies to this call, None without one; it counts as used."""
        for index, rule in enumerate(self.live(now)):
            covered = rule.covers(operation, integration=integration, connection_id=connection_id)
            if covered and (rule.rate >= 1 or self._chance() < rule.rate):
                self._use(index)
                return rule
        return None

    def _use(self, index: int) -> None:
        rule = self.rules[index]
        if rule.times is not None:
            left = (replace(rule, times=rule.times - 1),) if rule.times > 1 else ()
            self.rules = (*self.rules[:index], *left, *self.rules[index + 1 :])
