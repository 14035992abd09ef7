"""Users and organizations in files: CSV with a header line, or a JSON object per line, read one line at a time."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import IO, Any, Final

from app.domain.json_keys import repeated_key
from app.domain.json_values import read_with_repeats
from app.domain.people import FIELDS, OwnerKind
from app.errors import FieldFault, InvalidInput

CLEAR: Final = r"\N"  # in a CSV cell: clears the field. An empty cell leaves it as it is
MAX_LINE: Final = 64 * 1024  # characters


class Format(StrEnum):
    CSV = "csv"
    JSON_LINES = "jsonl"


ENDINGS: Final = {".csv": Format.CSV, ".jsonl": Format.JSON_LINES, ".ndjson": Format.JSON_LINES}


@dataclass(frozen=True, slots=True)
class FileLine:
    """A line's fields. `number` counts from 1; with `faults`, `fields` is empty."""

    number: int
    fields: Mapping[str, Any]
    faults: Sequence[FieldFault] = ()


def lines_in(file: IO[str]) -> Iterator[str]:
    """Lines of an open file. Of a line that is too long only MAX_LINE + 1 characters are read: it may be gigabytes."""
    return iter(partial(file.readline, MAX_LINE + 1), "")


def read(kind: OwnerKind, format_: Format, lines: Iterable[str]) -> Iterator[FileLine]:
    """The lines of a file, without empty ones.

    Raises InvalidInput for a CSV header that cannot be used, or a line of more than MAX_LINE characters.
    """
    bounded = _bounded(lines)
    return _read_csv(kind, bounded) if format_ is Format.CSV else _read_json_lines(bounded)


def _read_csv(kind: OwnerKind, lines: Iterable[str]) -> Iterator[FileLine]:
    # Strict: an unclosed quote would otherwise make the rest of the file one cell.
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1  # the record's first line, even when a quoted cell spans several lines
        try:
            cells = next(reader)
        except StopIteration:
            if header is None:
                raise InvalidInput(f"the file is empty; its first line names the fields: {_known(kind)}") from None
            return
        except csv.Error as broken:
            if header is None:
                raise InvalidInput(f"line {number}: not CSV: {broken}") from None
            yield FileLine(number, {}, [FieldFault("", "csv", f"not CSV: {broken}")])
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = _header(kind, cells, number)
        elif len(cells) != len(header):
            what = f"{len(cells)} cells where the header has {len(header)}"
            yield FileLine(number, {}, [FieldFault("", "cells", what)])
        else:
            named = zip(header, cells, strict=True)
            yield FileLine(number, {name: None if cell == CLEAR else cell for name, cell in named if cell})


def _header(kind: OwnerKind, cells: Sequence[str], number: int) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    for name in header:
        if name not in FIELDS[kind]:
            raise InvalidInput(f"line {number}: {name[:64]!a} is not a field; the header names {_known(kind)}")
        if header.count(name) > 1:
            raise InvalidInput(f"line {number}: the header names {name} twice")
    if "external_id" not in header:
        raise InvalidInput(f"line {number}: the header does not name external_id; it names {_known(kind)}")
    return header


def _known(kind: OwnerKind) -> str:
    return ", ".join(FIELDS[kind])


def _bounded(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise InvalidInput(f"line {number} has more than {MAX_LINE} characters: this is no list of people")
        yield line


def _read_json_lines(lines: Iterable[str]) -> Iterator[FileLine]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value, repeated = read_with_repeats(line)
        except (ValueError, RecursionError) as broken:
            where = f" at character {broken.pos + 1}" if isinstance(broken, json.JSONDecodeError) else ""
            yield FileLine(number, {}, [FieldFault("", "json", f"not JSON{where}")])
            continue
        if repeated and (found := repeated_key(value)):
            yield FileLine(number, {}, [FieldFault(found.place, "repeated", found.reason)])
        elif isinstance(value, dict):
            yield FileLine(number, value)
        else:
            yield FileLine(number, {}, [FieldFault("", "json", "not a JSON object")])
