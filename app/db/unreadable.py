"""Values of the database that this release cannot read, and the rows that hold them.

Other releases, restored backups and manual statements write into the database, too. A column's type (`types`) reads
such a value as None and records it here, so that the other rows of a list or a batch are read. After the unit of work
its rows are searched, once for each value, and logged.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Dialect, Engine, Table, Text, cast, select, type_coerce
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import NullType

from app.ids import (
    AUDIT,
    CONNECTION,
    EVENT,
    JOB,
    LINK,
    ORGANIZATION,
    RECONCILIATION,
    REFRESH,
    SECRET,
    TOKEN,
    USER,
    show,
)
from app.outage_causes import of_database
from app.telemetry import UNREADABLE_VALUES, get_logger

MOST_VALUES: Final = 1000  # distinct values that a process searches: a search may read a whole table
MOST_ROWS: Final = 100  # logged of one column at once
_PREFIXES: Final = {
    "api_tokens": TOKEN,
    "audit": AUDIT,
    "connections": CONNECTION,
    "destination_secrets": SECRET,
    "events": EVENT,
    "jobs": JOB,
    "links": LINK,
    "organizations": ORGANIZATION,
    "reconciliations": RECONCILIATION,
    "refreshes": REFRESH,
    "users": USER,
}

log = get_logger(__name__)


class Unreadable:
    """Unreadable values of one engine. Threads share it: a value recorded by one may be logged by another."""

    def __init__(self) -> None:
        self._met: set[tuple[str, int]] = set()
        self._waiting: list[tuple[Column[Any], Any]] = []

    def note(self, column: Column[Any], value: Any) -> None:
        """Record a value in the driver's form."""
        found = (str(column), hash(value))  # a hash, since a document may be large
        if found not in self._met and len(self._met) < MOST_VALUES:
            self._met.add(found)
            self._waiting.append((column, value))

    def name(self, engine: Engine) -> None:
        """Search the rows of newly recorded values and log them. Never raises, since it is no part of the work."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values: defaultdict[Column[Any], list[Any]] = defaultdict(list)
        for column, value in waiting:
            values[column].append(value)
        for column, some in values.items():
            try:
                rows = _rows_with(engine, column, some)
            except SQLAlchemyError as problem:
                log.warning("value_unreadable", column=str(column), rows=None, problem=of_database(problem))
                continue
            UNREADABLE_VALUES.labels(str(column)).inc(len(rows))
            log.warning("value_unreadable", column=str(column), rows=rows, more=len(rows) >= MOST_ROWS)


_of_engines: Final[WeakKeyDictionary[Dialect, Unreadable]] = WeakKeyDictionary()


def of(dialect: Dialect) -> Unreadable:
    """The record of the engine with this dialect object; each engine has its own."""
    return _of_engines.setdefault(dialect, Unreadable())


def _rows_with(engine: Engine, column: Column[Any], values: Iterable[Any]) -> list[str]:
    table: Table = column.table
    key = list(table.primary_key.columns)
    # SQLite returns stored values of any type. PostgreSQL's column has one type, which is returned as text.
    raw = type_coerce(column, NullType()) if engine.dialect.name == "sqlite" else cast(column, Text)
    found = select(*key).where(raw.in_(list(values))).limit(MOST_ROWS)
    with engine.connect().execution_options(waylink_read_only=True) as connection:
        return [_shown(table.name, tuple(row)) for row in connection.execute(found)]


def _shown(table: str, key: tuple[Any, ...]) -> str:
    if len(key) == 1 and isinstance(key[0], UUID) and table in _PREFIXES:
        return show(_PREFIXES[table], key[0])
    return "/".join(part.hex if isinstance(part, UUID) else str(part) for part in key)
