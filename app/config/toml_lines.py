"""Lines of keys in a TOML text, for messages: tomllib keeps no positions."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Path = tuple[str | int, ...]  # keys, and positions in arrays

LONGEST: Final = 500  # lines of one value: a statement is read anew with each line that it goes on
MOST: Final = 5_000  # readings in all; what comes after has the line of no key


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line, from 1, on which the value of this path begins, or the nearest table around it; None: the whole file.

    text: valid TOML. For a place within an array or an inline table it is the line of its key.
    """
    lines = _lines(text)
    around = (tuple(path[:length]) for length in range(len(path), 0, -1))
    return next((lines[inner] for inner in around if inner in lines), None)


def _lines(text: str) -> dict[Path, int]:
    """The line of each table and key, where it stands first."""
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}  # elements so far, by array of tables
    rows = text.replace("\r\n", "\n").split("\n")  # other line separators are characters of a string
    number = read = 0
    while number < len(rows) and read < MOST:
        statement = _statement(rows, number)
        length = statement.count("\n") + 1
        found = _parsed(statement)
        read += length if found is not None else LONGEST
        keys = tuple(_keys(found))
        is_table = statement.lstrip().startswith("[")
        path: Path = () if is_table else table
        for at, key in enumerate(keys):
            path = (*path, key)
            lines.setdefault(path, number + 1)
            if at == len(keys) - 1 and statement.lstrip().startswith("[["):
                counts[path] = counts.get(path, 0) + 1
            if is_table and path in counts:
                path = (*path, counts[path] - 1)
                lines.setdefault(path, number + 1)
        table = path if is_table else table
        number += length
    return lines


def _statement(rows: Sequence[str], begin: int) -> str:
    """The lines from `begin` on that are one statement."""
    for end in range(begin + 1, min(begin + LONGEST, len(rows)) + 1):
        statement = "\n".join(rows[begin:end])
        if _parsed(statement) is not None:
            return statement
    return rows[begin]


def _parsed(statement: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return None


def _keys(found: Any) -> Iterator[str]:
    """The keys of a statement that was parsed alone: it defines one value."""
    while isinstance(found, Mapping) and len(found) == 1:
        key, found = next(iter(found.items()))
        yield key
        if isinstance(found, list) and found == [{}]:
            return
