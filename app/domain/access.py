"""Rights of callers: scopes of API tokens, roles of operators."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """A right of a token. A team's token reads that team's own rows, and with `operator` changes them, too."""

    VIEWER = "viewer"  # read everything but live credentials
    OPERATOR = "operator"  # the same, and change things
    CREDENTIALS = "credentials"  # read everything, live credentials of connections too


class Role(StrEnum):
    """The rights of an operator. Reading live credentials is a right beside it."""

    VIEWER = "viewer"  # read everything but live credentials
    OPERATOR = "operator"  # the same, and change things
    TEAM = "team"  # read and change what is one team's


_INCLUDED: Final[Mapping[Scope, frozenset[Scope]]] = {
    Scope.VIEWER: frozenset({Scope.VIEWER}),
    Scope.OPERATOR: frozenset({Scope.OPERATOR, Scope.VIEWER}),
    Scope.CREDENTIALS: frozenset({Scope.CREDENTIALS, Scope.VIEWER}),
}
OF_TEAMS: Final = frozenset({Scope.OPERATOR})  # scopes that a team's token may have


@dataclass(frozen=True, slots=True)
class Access:
    """A caller's rights. `actor`: the caller's name in the audit, `token:<name>`, `operator:<name>` or
    `cli:<os user>`.
    """

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


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of an operator. `team` is there for the role `team`, and for it alone."""

    role: Role
    team: str | None = None
    credentials: bool = False

    @property
    def fault(self) -> str | None:
        """The reason why these rights do not go together; None where they do."""
        if (self.role is Role.TEAM) != (self.team is not None):
            return "the role `team` goes with a team, and no other role does"
        if self.role is Role.TEAM and self.credentials:
            return "the role `team` cannot read credentials of connections"
        return None

    @property
    def scopes(self) -> frozenset[Scope]:
        """The same rights as scopes."""
        role = Scope.VIEWER if self.role is Role.VIEWER else Scope.OPERATOR
        return frozenset({role, Scope.CREDENTIALS} if self.credentials else {role})

    def access(self, name: str) -> Access:
        """The rights of the operator of this name as a caller."""
        return Access(f"operator:{name}", self.scopes, self.team)


@dataclass(frozen=True, slots=True)
class GroupRights:
    """The rights that members of a group of the identity provider get."""

    group: str
    rights: Rights


def rights_of_groups(mapping: Iterable[GroupRights], groups: Iterable[str]) -> Rights | None:
    """The rights of the first entry whose group is among these; None where there is none."""
    found = set(groups)
    return next((entry.rights for entry in mapping if entry.group in found), None)
