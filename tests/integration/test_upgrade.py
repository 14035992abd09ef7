"""A full database of the release before keeps every row when it is brought up to date, on both databases."""

import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from sqlalchemy import MetaData, Table, insert, inspect, select, text

from app.db import engine, schema, upgrading

NOW = datetime(2026, 8, 21, 12, 0, 1, 234567, tzinfo=UTC)
# What a column needs that a value of its type alone would not meet: checks, keys and references.
VALUES: dict[str, Any] = {
    "events.state": "failed",
    "events.origin": "webhook",
    "connections.status": "active",
    "destinations.kind": "celery",
    "jobs.state": "discarded",
    "audit.outcome": "done",
    "reconciliations.trigger": "demand",
    "reconciliations.stage": "done",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with closing(engine.connect(url)) as opened:
        yield opened


def upgrade_to(database, revision):
    """As `upgrading.upgrade`, but not to the end."""
    with database.engine.begin() as connection:
        config = upgrading._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def tables_of(database):
    """The tables as they are in the database, referenced ones first."""
    found = MetaData()
    with database.engine.connect() as connection:
        found.reflect(connection, only=[one for one in inspect(connection).get_table_names() if one[:8] != "alembic_"])
    return found.sorted_tables


def row_of(table: Table, known: dict[str, Any]) -> dict[str, Any]:
    """A row with a value in every column, references included."""
    row = {}
    for column in table.columns:
        target = next((f"{key.column.table.name}.{key.column.name}" for key in column.foreign_keys), None)
        name = f"{table.name}.{column.name}"
        row[column.name] = known[target] if target else VALUES.get(name, value_of(column))
        known[name] = row[column.name]
    return row


def value_of(column) -> Any:
    # SQLite tells a UUID as CHAR(32); anything else by its name.
    kind = type(column.type).__name__
    if kind in {"UUID", "Uuid"}:
        return uuid.uuid5(uuid.NAMESPACE_OID, str(column))
    if kind == "CHAR":
        return uuid.uuid5(uuid.NAMESPACE_OID, str(column)).hex
    plain = {
        "TEXT": "text \N{SNOWMAN}", "BYTEA": b"\x00\xff", "BLOB": b"\x00\xff", "INTEGER": 1, "BIGINT": 1 << 40,
        "BOOLEAN": True, "JSON": {"a": [1, None]}, "JSONB": {"a": [1, None]}, "FLOAT": 1.5, "DOUBLE": 1.5,
        "DOUBLE_PRECISION": 1.5, "TIMESTAMP": NOW, "DATETIME": NOW.replace(tzinfo=None),
    }  # fmt: skip
    return plain[kind]


def rows_of(database, tables):
    with database.engine.connect() as connection:
        return {table.name: [tuple(row) for row in connection.execute(select(table))] for table in tables}


def fill(database, tables):
    known: dict[str, Any] = {}
    with database.engine.begin() as connection:
        for table in tables:
            row = row_of(table, known)
            if table.name == "route_set":
                continue  # it has its one row from the start
            connection.execute(insert(table).values(row))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_an_upgrade_from_the_first_schema_keeps_every_row_of_every_table(database):
    upgrade_to(database, "0001")
    tables = tables_of(database)
    fill(database, tables)
    before = rows_of(database, tables)
    assert len(before) >= 14
    assert all(len(rows) == 1 for rows in before.values()), before
    assert upgrading.upgrade(database) == schema.head()
    assert rows_of(database, tables) == before
    schema.require_current(database)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # on SQLite nobody can write meanwhile anyway
def test_an_index_that_was_made_beforehand_by_hand_is_taken_as_it_is(database):
    upgrade_to(database, "0001")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table, state in (("events", "failed"), ("jobs", "discarded")):
            statement = f"CREATE INDEX CONCURRENTLY ix_{table}_{state} ON {table} (id) WHERE state = '{state}'"
            connection.exec_driver_sql(statement)
    assert upgrading.upgrade(database) == schema.head()


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_dates_from_outside_that_are_none_are_forgotten_and_the_others_stay(database):
    """An earlier release stored what Nango sent: the year 1, which Go and .NET write for "none", among it."""
    upgrade_to(database, "0008")
    fill(database, tables_of(database))
    columns = [("connections", "expires_at"), ("refreshes", "expires_at"), ("differences", "since")]
    kept = ["2026-08-21 12:00:01.234567", "2026-08-21 12:00:01", "1971-01-01 00:00:00", "2999-12-31 23:59:59.999999"]
    wrong = ["0001-01-01 00:00:00", "1970-12-31 23:59:59.999999", "3000-01-01 00:00:00", "9999-12-31 23:59:59.999999"]
    if database.is_sqlite:
        wrong += ["1-01-01 00:00:00.000000", "999-01-01 00:00:00", "soon", "", "0", "1787313601"]
    else:
        wrong += ["infinity", "-infinity", "0044-03-15 12:00:00 BC", "12026-01-01 00:00:00"]
    for table, column in columns:
        copies = [one for one in tables_of(database) if one.name == table]
        add_copies(database, copies[0], column, [*kept, *wrong])
    with database.engine.connect() as connection:
        before = {table: connection.scalar(text(f"SELECT count(*) FROM {table}")) for table, _ in columns}
    upgrading.upgrade(database)
    with database.engine.connect() as connection:
        for table, column in columns:
            count, present = connection.execute(text(f"SELECT count(*), count({column}) FROM {table}")).one()
            assert (count, present) == (before[table], 1 + len(kept))


def add_copies(database, table, column, values):
    """The table's row once more for each value, under keys of their own."""
    with database.engine.begin() as connection:
        row = dict(connection.execute(select(table)).mappings().one())
        for number, value in enumerate(values):
            names = {"id": value_like(row["id"], number), "connection_id": f"copy-{number}"}
            given = row | {name: mine for name, mine in names.items() if name in row}
            connection.execute(insert(table).values(given))
            cast = ":value" if database.is_sqlite else "CAST(:value AS timestamp) AT TIME ZONE 'UTC'"
            statement = text(f"UPDATE {table.name} SET {column} = {cast} WHERE id = :id")
            connection.execute(statement, {"value": value, "id": given["id"]})


def value_like(kept, number):
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"copy {number}")
    return made.hex if isinstance(kept, str) else made
