"""Bulk statements: all rows of a batch as one parameter.

Writes go to the driver directly. PostgreSQL gets all rows as one JSON value and casts it to the columns' types, so that
a statement's text is constant and prepared once. SQLite, without a round trip, gets the rows one after the other.
docs/benchmarks.md has the figures.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from inspect import get_annotations
from operator import attrgetter
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Dialect,
    Executable,
    Table,
    Uuid,
    and_,
    any_,
    cast,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.types import StoredJson, UtcDateTime

Row = Mapping[str, Any]  # values by column name
Record = TypeVar("Record")

MAX_JSON: Final = 32 * 1024 * 1024  # bytes; an eighth of PostgreSQL's limit for a JSON value

_POSTGRESQL: Final[Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]
_encode: Final = msgspec.json.Encoder(uuid_format="hex").encode


def insert(session: Session, model: type[Any], rows: Sequence[Row], *, skip_existing: bool = False) -> int:
    """Add rows with the same columns. skip_existing: leave out rows that violate a unique constraint.

    Returns the count of added rows.
    """
    if not rows:
        return 0
    columns = tuple(rows[0])
    statement = _insert(dialect(session), table(model), columns)
    statement = f"{statement} ON CONFLICT DO NOTHING" if skip_existing else statement
    return _run(session, table(model), statement, columns, rows)


def update(session: Session, model: type[Any], rows: Sequence[Row], *, only: str = "true") -> int:
    """Update rows by id. Each row holds its `id` and the columns to change. only: an SQL condition on the stored rows.

    Returns the count of updated rows.
    """
    updated = 0
    for columns, alike in _by_columns(rows):
        statement = f"{_update(dialect(session), table(model), columns)} AND {only}"
        updated += _run(session, table(model), statement, columns, alike)
    return updated


def update_where(
    session: Session, model: type[Any], rows: Sequence[Row], *, same: str, also: str
) -> set[tuple[UUID, Any]]:
    """Update only rows with an unchanged column `same`, given in `rows`, and with the SQL condition `also`.

    Returns (id, value of `same`) of the updated rows. Rows are locked in the given order.
    """
    connection, changed = session.connection(), set[tuple[UUID, Any]]()
    for columns, alike in _by_columns(rows):
        statement = f"{_update(dialect(session), table(model), columns, ('id', same))} AND {also}"
        if connection.dialect.name == "postgresql":
            name = table(model).name
            updated = connection.exec_driver_sql(
                f"{statement} RETURNING {name}.id, {name}.{same}", {"rows": _encode(alike).decode()}
            )
            changed |= {(row_id, value) for row_id, value in updated}
        else:
            for row, values in zip(alike, _values(table(model), columns, alike), strict=True):
                if connection.exec_driver_sql(statement, values).rowcount:
                    changed.add((row["id"], row[same]))
    return changed


def insert_for(session: Session, model: type[Any]) -> Any:
    """The dialect's INSERT, which supports ON CONFLICT."""
    return (postgresql if dialect(session) == "postgresql" else sqlite).insert(table(model))


def table(model: type[Any]) -> Table:
    """The model's table, for statements without the ORM."""
    result: Table = model.__table__
    return result


def columns(model: type[Any], record: type[Any]) -> list[Column[Any]]:
    """The columns of a record type, whose fields are named like them, in its order."""
    return [table(model).c[name] for name in get_annotations(record)]


def records(
    session: Session, record: Callable[..., Record], statement: Executable, parameters: Mapping[str, Any] | None = None
) -> list[Record]:
    """The rows of a statement, each as a record. All are fetched at once: one after the other takes twice as long."""
    return [record(*row) for row in session.execute(statement, parameters).all()]


def keys(values: Iterable[object]) -> dict[str, str]:
    """The parameter of `among`: values of one column, or tuples of several."""
    return {"keys": _encode([value if isinstance(value, tuple) else (value,) for value in values]).decode()}


def among(dialect: str, *columns: ColumnElement[Any], search_by: int | None = None) -> ColumnElement[bool]:
    """The condition that the columns have one of `keys`: one parameter, so that a statement can be cached.

    search_by: of several columns, the place of one with an index whose values are in few rows. PostgreSQL looks it up
    first; a table of some thousand rows would be read as a whole.
    """
    if dialect == "postgresql":
        source = text("jsonb_array_elements(CAST(:keys AS jsonb)) AS keys (value)")
        typed = [cast(literal_column(f"value->>{place}"), column.type) for place, column in enumerate(columns)]
        searched = 0 if len(columns) == 1 else search_by
        conditions = []
        if searched is not None:
            # From PostgreSQL 17 on, an array is one index scan; IN is one per key, and takes half as long again.
            values = select(typed[searched]).select_from(source).scalar_subquery()
            conditions.append(columns[searched] == any_(func.array(values)))
        if len(columns) > 1:
            conditions.append(tuple_(*columns).in_(select(*typed).select_from(source)))
        return and_(*conditions)
    places: list[ColumnElement[Any]] = [literal_column(f"value->>{place}") for place in range(len(columns))]
    wanted = select(*places).select_from(text("json_each(:keys) AS keys"))
    return columns[0].in_(wanted) if len(columns) == 1 else tuple_(*columns).in_(wanted)


def dialect(session: Session) -> str:
    """`postgresql` or `sqlite`, the key of cached statements."""
    return session.get_bind().dialect.name


def _by_columns(rows: Iterable[Row]) -> Iterable[tuple[tuple[str, ...], list[Row]]]:
    """Rows grouped by their columns."""
    shapes: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        shapes.setdefault(tuple(row), []).append(row)
    return shapes.items()


def _run(session: Session, changed: Table, statement: str, columns: Sequence[str], rows: Sequence[Row]) -> int:
    connection = session.connection()
    if connection.dialect.name != "postgresql":
        return connection.exec_driver_sql(statement, _values(changed, columns, rows)).rowcount
    encoded = _encode(rows)
    if len(encoded) > MAX_JSON and len(rows) > 1:
        half = len(rows) // 2
        return sum(_run(session, changed, statement, columns, part) for part in (rows[:half], rows[half:]))
    return connection.exec_driver_sql(statement, {"rows": encoded.decode()}).rowcount


def _values(written: Table, columns: Sequence[str], rows: Sequence[Row]) -> list[tuple[object, ...]]:
    """The rows' values in SQLite's types, converted column by column."""
    converted = []
    for name in columns:
        kind, values = written.c[name].type, [row[name] for row in rows]
        convert = next((convert for type_, convert in _AS_SQLITE if isinstance(kind, type_)), None)
        converted.append([convert(value) if value is not None else None for value in values] if convert else values)
    return list(zip(*converted, strict=True))


@cache
def _insert(dialect: str, into: Table, columns: tuple[str, ...]) -> str:
    names = ", ".join(columns)
    if dialect == "postgresql":
        return f"INSERT INTO {into.name} ({names}) SELECT {names} FROM {_input(into, columns)}"  # noqa: S608 - ours
    return f"INSERT INTO {into.name} ({names}) VALUES ({', '.join('?' for _ in columns)})"  # noqa: S608 - ours


@cache
def _update(dialect: str, changed: Table, columns: tuple[str, ...], same: tuple[str, ...] = ("id",)) -> str:
    name = changed.name
    if dialect == "postgresql":
        new = {column: f"input.{column}" for column in columns}
        source = f" FROM {_input(changed, columns)}"
    else:
        new = {column: f"?{place}" for place, column in enumerate(columns, 1)}
        source = ""
    changes = ", ".join(f"{column} = {value}" for column, value in new.items() if column not in same)
    matches = " AND ".join(f"{name}.{column} = {new[column]}" for column in same)
    return f"UPDATE {name} SET {changes}{source} WHERE {matches}"  # noqa: S608 - ours


def _input(into: Table, columns: Sequence[str]) -> str:
    """The parameter `rows` as a table with the columns' types."""
    typed = ", ".join(f"{name} {into.c[name].type.compile(_POSTGRESQL)}" for name in columns)
    return f"jsonb_to_recordset(%(rows)s::jsonb) AS input ({typed})"


@lru_cache  # most times of a batch are the same
def _time_as_sqlite(value: datetime) -> str:
    """As SQLAlchemy writes it: sortable text, with four digits for every year."""
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


_AS_SQLITE: Final[Sequence[tuple[type, Callable[[Any], object]]]] = (  # by the type of the column
    (Uuid, attrgetter("hex")),
    (UtcDateTime, _time_as_sqlite),
    (StoredJson, lambda value: _encode(value).decode()),
)
