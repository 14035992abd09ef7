"""Rights of API callers: scopes of tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """A right of a token. A team's token reads that team's own rows, and with `operator` changes them, too."""

    VIEWER = "viewer"  # read everything but live credentials
    OPERATOR = "operator"  # the same, and change things
    CREDENTIALS = "credentials"  # read everything, live credentials of connections too


_INCLUDED: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.VIEWER: frozenset({Scope.VIEWER}),
    Scope.OPERATOR: frozenset({Scope.OPERATOR, Scope.VIEWER}),
    Scope.CREDENTIALS: frozenset({Scope.CREDENTIALS, Scope.VIEWER}),
}
OF_TEAMS: Final = frozenset({Scope.OPERATOR})  # scopes that a team's token may have


@dataclass(frozen=True, slots=True)
class Access:
    """A caller's rights. `actor`: the caller's name in the audit, `token:<name>` or `cli:<os user>`."""

    actor: str
    scopes: frozenset[Scope]
    team: str | None = None

    def allows(self, wanted: Scope, *, teams: bool = False) -> bool:
        """Whether the caller may use an endpoint of that scope. teams: the endpoint limits a team's token to its own
        rows.
        """
        if self.team is None:
            return any(wanted in _INCLUDED[scope] for scope in self.scopes)
        return teams and (wanted is Scope.VIEWER or wanted in self.scopes & OF_TEAMS)
