"""Who calls, and what they may do: the scopes of API tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """What a token may do. One of a team reads that team's own rows, and as an operator it changes them, too."""

    VIEWER = "viewer"  # read everything but live credentials
    OPERATOR = "operator"  # the same, and change things
    CREDENTIALS = "credentials"  # read everything, live credentials of connections too


_INCLUDED: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.VIEWER: frozenset({Scope.VIEWER}),
    Scope.OPERATOR: frozenset({Scope.OPERATOR, Scope.VIEWER}),
    Scope.CREDENTIALS: frozenset({Scope.CREDENTIALS, Scope.VIEWER}),
}
OF_TEAMS: Final = frozenset({Scope.OPERATOR})  # those that a team's token may have


@dataclass(frozen=True, slots=True)
class Access:
    """Whoever calls. `actor` is what the audit calls them: `token:<name>` or `cli:<os user>`."""

    actor: str
    scopes: frozenset[Scope]
    team: str | None = None

    def allows(self, wanted: Scope, *, teams: bool = False) -> bool:
        """Whether they may call what needs that scope. teams: it minds whose rows are a team's."""
        if self.team is None:
            return any(wanted in _INCLUDED[scope] for scope in self.scopes)
        return teams and (wanted is Scope.VIEWER or wanted in self.scopes & OF_TEAMS)
