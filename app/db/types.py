"""Column types for values that other systems and releases may have written: an unreadable value is read as None.

One such value must not keep the other rows of a list or batch from being read (`unreadable` logs its row).
"""

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator, TypeEngine

from app.db import unreadable
from app.domain.timestamps import EARLIEST, LATEST, read_moment

T = TypeVar("T")
Read = Callable[[Any], Any]

UNKNOWN: Final = datetime(1970, 1, 1, tzinfo=UTC)  # replaces an unreadable time in a column that cannot be null

_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


class Readable(TypeDecorator[T]):
    """A type that knows its column, and the value that replaces an unreadable one."""

    cache_ok = True
    column: Column[Any] | None = None
    instead: Any = None

    def of(self, column: Column[Any], instead: Any) -> "Readable[T]":
        """This type for one column."""
        mine = copy.copy(self)
        mine.column, mine.instead = column, instead
        return mine

    def cannot_read(self, dialect: Dialect, value: Any) -> Any:
        """Record a value in the driver's form, and return its replacement."""
        if self.column is not None:
            unreadable.of(dialect).note(self.column, value)
        return copy.copy(self.instead)


class UtcDateTime(Readable[datetime]):
    """A point in time: always aware and UTC in Python; `timestamptz` on PostgreSQL, ISO text without zone on SQLite.

    Both databases return it as text (`engine`): PostgreSQL's driver would refuse a whole row for `infinity`, a year
    past 9999 or one before 1.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def result_processor(self, dialect: Dialect, coltype: object) -> Read:
        parse, suffix = datetime.fromisoformat, "+00:00" if dialect.name == "sqlite" else ""

        def read(value: Any) -> Any:
            if value is None:
                return None
            try:
                at = parse(value + suffix)
                if at.tzinfo is UTC and EARLIEST <= at < LATEST:
                    return at
            except (TypeError, ValueError):
                pass  # not in the form that Waylink writes
            moment = read_moment(value)
            return self.cannot_read(dialect, value) if moment is None else moment

        return read


class StoredJson(Readable[Any]):
    """A JSON object or array, by `kind`; null is SQL's. Both databases return it as text."""

    impl: Any = JSON
    cache_ok = True

    def __init__(self, kind: type[Any] = dict) -> None:
        super().__init__(none_as_null=True)
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        made = JSONB(none_as_null=True) if dialect.name == "postgresql" else JSON(none_as_null=True)
        return dialect.type_descriptor(made)

    def result_processor(self, dialect: Dialect, coltype: object) -> Read:
        kind = self.kind

        def read(value: Any) -> Any:
            if value is None:
                return None
            try:
                found = _decode(value)
            except (TypeError, ValueError, RecursionError):
                return self.cannot_read(dialect, value)
            return found if type(found) is kind else self.cannot_read(dialect, value)

        return read


class JsonText(StoredJson):
    """The same in a text column, for values that no statement looks into."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[Any] = dict) -> None:
        TypeDecorator.__init__(self)
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Text()

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else _encode(value).decode()


class StoredInteger(Readable[int]):
    """A whole number of up to 64 bits. SQLite stores values of any type in such a column."""

    impl = BigInteger
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Read | None:
        if dialect.name != "sqlite":
            return None
        return lambda value: value if value is None or type(value) is int else self.cannot_read(dialect, value)
