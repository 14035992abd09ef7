"""What is in force, came from waylink.toml and is no longer in it: how commands find, tell and mark it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.cli.output import print_rows
from app.config.loading import readable_file
from app.config.waylink_toml import ConfigFile
from app.db import routes as route_rows
from app.db.routes import FILE
from app.domain.definitions import Names


def orphans(session: Session, file: ConfigFile, path: Path | None) -> Names:
    """Nothing where there is no file: it says nothing of what is in force."""
    return route_rows.of_file(session) - file.names if path else Names()


def told(found: Names) -> str:
    """What the file no longer has, and where to look."""
    named = "; ".join(f"{kind} {', '.join(names)}" for kind, names in found.parts())
    return f"in force, and not in waylink.toml: {named}; see `waylink routes plan`"


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
        found = [{**row, "source": "file, no longer in it"} if row["in_file"] is False else row for row in found]
    print_rows(found, columns, as_json=as_json)
