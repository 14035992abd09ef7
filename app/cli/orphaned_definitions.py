"""Listings of definitions that mark those that have left waylink.toml."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from app.cli.output import print_list
from app.config.loading import readable_file
from app.db.routes import FILE


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
