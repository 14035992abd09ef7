"""Orphans: definitions in force that came from waylink.toml and are not in it now; found, reported and marked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.cli.output import print_list
from app.config.loading import readable_file
from app.config.waylink_toml import ConfigFile
from app.db import routes as route_rows
from app.db.routes import FILE
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
        named = "; ".join(f"{kind} {', '.join(names)}" for kind, names in self.names.parts())
        if self.path is None:
            return f"there is no waylink.toml in {Path.cwd()}; in force from one: {named}"
        return f"in force, and not in waylink.toml: {named}; see `waylink routes plan`"


def orphans(session: Session, file: ConfigFile, path: Path | None) -> Orphans:
    """Find the orphans; all that came from a file where there is no file now."""
    return Orphans(route_rows.of_file(session) - file.names if path else route_rows.of_file(session), path)


def print_marked(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, kind: str, as_json: bool) -> None:
    """A listing of `teams`, `destinations` or `routes`, each saying whether the file has it.

    `in_file` is null where the API manages it, and where there is no file that can be read. In the table, the source
    says it.
    """
    file = readable_file()
    names = getattr(file.names, kind) if file else None

    def in_file(row: Mapping[str, Any]) -> bool | None:
        if names is None or row["source"] != FILE or row.get("retired_at"):
            return None
        return (row["name"] if kind == "teams" else (row["team"], row["name"])) in names

    found = [{**row, "in_file": in_file(row)} for row in rows]
    if not as_json:
        found = [{**row, "source": _source(row, is_read=file is not None)} for row in found]
    print_list(found, columns, as_json=as_json)


def _source(row: Mapping[str, Any], *, is_read: bool) -> str:
    if row["in_file"] is False:
        return "file, no longer in it"
    if row["source"] == FILE and not is_read and not row.get("retired_at"):
        return "file, not read here"
    return str(row["source"])
