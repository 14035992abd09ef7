"""Who calls, and what they may do: the scopes of API tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """What a token may do. A token of one team has none of these: it reads that team's events and jobs, and
    retries, cancels and redelivers those jobs."""

    VIEWER = "viewer"  # read everything but live credentials
    OPERATOR = "operator"  # the same, and change things
    CREDENTIALS = "credentials"  # read everything, live credentials of connections too


_INCLUDED: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.VIEWER: frozenset({Scope.VIEWER}),
    Scope.OPERATOR: frozenset({Scope.OPERATOR, Scope.VIEWER}),
    Scope.CREDENTIALS: frozenset({Scope.CREDENTIALS, Scope.VIEWER}),
}


@dataclass(frozen=True, slots=True)
class Access:
    """Whoever calls. `actor` is what the audit calls them: `token:<name>` or `cli:<os user>`."""

    actor: str
    scopes: frozenset[Scope]
    team: str | None = None

    def allows(self, wanted: Scope) -> bool:
        return any(wanted in _INCLUDED[scope] for scope in self.scopes)
