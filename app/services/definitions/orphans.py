"""Orphans: definitions in force that came from waylink.toml and are not in it now."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.db import routes as route_rows
from app.domain.definitions import DefinedNames


@dataclass(frozen=True, slots=True)
class Orphans:
    """Teams, destinations and routes in force that came from a waylink.toml which lacks them now, or is not there."""

    names: DefinedNames
    path: Path | None

    def __bool__(self) -> bool:
        return bool(self.names)

    def __str__(self) -> str:
        """Their names by kind, and the command that shows them."""
        return f"{self.described()}; see `waylink routes plan`" if self.path else self.described()

    def described(self) -> str:
        """Their names by kind."""
        named = "; ".join(f"{kind} {', '.join(names)}" for kind, names in self.names.parts())
        if self.path is None:
            return f"there is no waylink.toml in {Path.cwd()}; in force from one: {named}"
        return f"in force, and not in waylink.toml: {named}"


def orphans(session: Session, file: DefinedNames, path: Path | None) -> Orphans:
    """Find the orphans; all that came from a file where there is no file now."""
    return Orphans(route_rows.of_file(session) - file if path else route_rows.of_file(session), path)
