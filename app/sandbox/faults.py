"""What is made to go wrong on purpose, decided in one place.

A rule names an operation and, if it likes, an integration and a connection; it strikes every matching call, or the
next `times` of them. Handlers ask `strikes` at the moment where a provider would answer.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Operation(StrEnum):
    AUTHORIZE = "authorize"  # the provider refuses the end user's credentials or code
    REFRESH = "refresh"  # the provider refuses to renew a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    operation: Operation
    integration: str | None = None
    connection_id: str | None = None
    times: int | None = None

    def covers(self, operation: Operation, *, integration: str, connection_id: str) -> bool:
        return (
            self.operation == operation
            and self.integration in {None, integration}
            and self.connection_id in {None, connection_id}
        )


class Faults:
    """The live rules, oldest first; the first that covers a call strikes."""

    def __init__(self) -> None:
        self.rules: tuple[Rule, ...] = ()

    def add(self, rule: Rule) -> None:
        self.rules = (*self.rules, rule)

    def clear(self, *, operation: Operation | None, integration: str | None, connection_id: str | None) -> int:
        """Drop the rules made for exactly these; None stands for any. Returns how many went."""

        def meant(rule: Rule) -> bool:
            return (
                operation in {None, rule.operation}
                and integration in {None, rule.integration}
                and connection_id in {None, rule.connection_id}
            )

        before = len(self.rules)
        self.rules = tuple(rule for rule in self.rules if not meant(rule))
        return before - len(self.rules)

    def strikes(self, operation: Operation, *, integration: str, connection_id: str) -> bool:
        for index, rule in enumerate(self.rules):
            if rule.covers(operation, integration=integration, connection_id=connection_id):
                self._use(index)
                return True
        return False

    def _use(self, index: int) -> None:
        rule = self.rules[index]
        if rule.times is not None:
            left = (replace(rule, times=rule.times - 1),) if rule.times > 1 else ()
            self.rules = (*self.rules[:index], *left, *self.rules[index + 1 :])
