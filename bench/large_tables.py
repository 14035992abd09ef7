"""Tables of ten million events, a million connections and a million jobs, filled for `bench.pages`.

Their rows are in `bench.large_rows` and `bench.small_rows`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, text

from app.db.bounded_connection import unbounded
from app.db.engine import Database
from bench.large_rows import Rows, Size, large
from bench.report import progress
from bench.small_rows import small


def fill(database: Database, *, now: datetime, share: float = 1.0) -> None:
    """Replace what the tables hold. share: of the rows that are named in `large_rows`."""
    size = Size(now, share)
    rows = [*small(size), *large(size)]
    with database.engine.connect() as connection:
        with connection.begin(), unbounded(connection):
            if connection.execute(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")).scalar_one():
                # Foreign keys hold by construction; checking each would take most of the time.
                connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
            tables = sorted({each.table for each in rows})
            connection.execute(text(f"TRUNCATE {', '.join(tables)} CASCADE"))
            with _without_indexes(connection, [each.table for each in large(size)]):
                for each in rows:
                    connection.exec_driver_sql(_insert(each).replace("%", "%%"))
                    if each.count >= 100_000:
                        progress(f"{each.count:,} {each.table}")
        with connection.begin(), unbounded(connection):
            connection.execute(text("ANALYZE"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection, unbounded(connection):
        connection.execute(text("VACUUM"))


def _insert(rows: Rows) -> str:
    names, values = ", ".join(rows.columns), ", ".join(rows.columns.values())
    return f"INSERT INTO {rows.table} ({names}) SELECT {values} FROM generate_series(0, {rows.count - 1}) AS n"


@contextmanager
def _without_indexes(connection: Connection, tables: Sequence[str]) -> Iterator[None]:
    """Take away what is no primary key, and make it again at the end: sorting is quicker than adding row by row."""
    found = connection.execute(
        text(
            "SELECT indexname, indexdef, constraintname FROM (SELECT i.indexname, i.indexdef, c.conname AS "
            "constraintname FROM pg_indexes AS i LEFT JOIN pg_constraint AS c ON c.conname = i.indexname "
            "WHERE i.schemaname = 'public' AND i.tablename = ANY(:tables)) AS found WHERE constraintname IS NULL"
        ),
        {"tables": sorted(set(tables))},
    ).all()
    for name, _, _ in found:
        connection.execute(text(f'DROP INDEX "{name}"'))
    yield
    for name, definition, _ in found:
        connection.exec_driver_sql(definition.replace("%", "%%"))
        progress(f"index {name}")
