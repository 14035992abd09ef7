"""A value of the database that cannot be read is shown as none, its row is named, and all other rows are listed."""

import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from structlog.testing import capture_logs

from app.db import engine
from app.db.models import Base
from app.db.types import Readable, StoredInteger, StoredJson, UtcDateTime
from app.ids import BULK_RUN, CONNECTION, EVENT, JOB, ORGANIZATION, RECONCILIATION, REFRESH, USER, show
from tests.integration.api.api_client import open_api
from tests.integration.cli.test_cli import Command

NOW = datetime.now(UTC).replace(microsecond=234567)
TEXTS = {
    "events.state": "failed", "events.origin": "webhook", "events.type": "connection.created",
    "connections.status": "active", "destinations.kind": "celery", "jobs.state": "discarded", "jobs.fault": "team",
    "jobs.blocked_by": None, "audit.outcome": "done", "reconciliations.trigger": "demand",
    "reconciliations.stage": "done", "reconciliations.outcome": "completed", "refreshes.outcome": "renewed",
    "refreshes.keeps": "token", "refresh_pauses.cause": "operator", "acknowledgements.kind": "jobs",
    "bulk_runs.state": "done", "bulk_runs.act": "jobs.retry",
    "processes.kind": "web", "operators.role": "team", "operators.issuer": None, "operators.subject": None,
    "canary.id": 1, "figure_totals.id": 1, "saved_views.page": "events",
    "differences.type": "connection.created", "routes.until_set": None, "routes.source": "api",
    "destinations.source": "api", "teams.source": "api", "teams.retired_at": None, "destinations.retired_at": None,
    "users.removed_at": None, "organizations.removed_at": None, "api_tokens.revoked_at": None,
}  # fmt: skip

ONE_ROW = {"route_set", "canary", "figure_totals"}  # the first has it from the start
MOMENTS = {
    # The first is how a year below 1000 was once written: without its zeros.
    "sqlite": ["1-01-01 00:00:00.000000", "0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.999999",
               "2026-02-30 00:00:00.000000", "soon", "", "12345678901234567890", "0.5"],
    "postgresql": ["infinity", "-infinity", "0001-01-01 00:00:00+00", "0044-03-15 12:00:00+00 BC",
                   "9999-12-31 23:59:59.999999+00", "12026-01-01 00:00:00+00", "0001-01-01 00:00:00+14",
                   "294276-12-31 23:59:59+00"],
}  # fmt: skip
DOCUMENTS = {
    "sqlite": ["{", "", "[1", "5", '"text"', "null", '{"a": 1e999}', "\x00"],
    "postgresql": ["[1]", "5", '"text"', "null", "[[]]", "true", '["a"]', "{}"],
}
INTEGERS = ["text", "1e30", "0.5", "", "9223372036854775808", "-", "x'00'", "NaN"]


def a_row(table, known: dict[str, Any], part: str) -> dict[str, Any]:
    """A row with a value in every column, references included; `part` distinguishes two of a table."""
    row = {}
    for column in table.columns:
        name = f"{table.name}.{column.name}"
        target = next((f"{key.column.table.name}.{key.column.name}" for key in column.foreign_keys), None)
        row[column.name] = known[target] if target else a_value(name, column, part)
        known[name] = row[column.name]
    return row


def a_value(name: str, column, part: str) -> Any:
    if name in TEXTS:
        return TEXTS[name]
    if isinstance(column.type, StoredJson):
        return {} if column.type.kind is dict else []
    kind = column.type.python_type if not isinstance(column.type, Readable) else column.type.impl.python_type
    return {
        uuid.UUID: uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {part}"),
        str: f"{column.name}-{part}",
        bytes: part.encode(),
        int: int.from_bytes(part.encode()[-3:]) if column.primary_key else 1,
        bool: False,
        float: 1.5,
        datetime: NOW,
        list: [],
    }[kind]


def fill(database, part: str) -> dict[str, Any]:
    """One row in every table; its values by column."""
    known: dict[str, Any] = {}
    with database.write() as session:
        for table in Base.metadata.sorted_tables:
            row = a_row(table, known, part)
            if table.name not in ONE_ROW or (table.name != "route_set" and part == "bad"):
                session.execute(insert(table).values(row))
    return known


def spoilable(table):
    """Without what rows are found by, and what says by its presence that a row is over, so that no list has it."""
    return [column for column in table.columns if not (column.primary_key or TEXTS.get(str(column), "") is None)]


def is_moment(column) -> bool:
    return isinstance(column.type, UtcDateTime)


def spoil(database, table, known, choice: int) -> None:
    """Put something unreadable into every column of the row that can take it."""
    kind = database.engine.dialect.name
    given = {}
    for column in spoilable(table):
        if is_moment(column):
            given[column.name] = MOMENTS[kind][choice]
        elif isinstance(column.type, StoredJson):
            given[column.name] = DOCUMENTS[kind][choice]
            if column.type.kind is list and given[column.name][:1] in "[":
                given[column.name] = '{"not": "a list"}'
        elif isinstance(column.type, StoredInteger) and kind == "sqlite" and column.name not in {"since_set"}:
            given[column.name] = INTEGERS[choice]
    key = {column.name: known[f"{table.name}.{column.name}"] for column in table.primary_key.columns}
    if not given:
        return
    kinds = {"DateTime": "timestamptz", "JSON": "jsonb", "Text": "text"}
    names = {
        column.name: kinds.get(type(getattr(column.type, "impl", column.type)).__name__) for column in table.columns
    }
    cast = "CAST(:{0} AS {1})" if kind == "postgresql" else ":{0}"
    changes = ", ".join(f"{name} = {cast.format(name, names[name])}" for name in given)
    where = " AND ".join(f"{name} = :key_{name}" for name in key)
    parameters = given | {f"key_{name}": as_stored(database, value) for name, value in key.items()}
    with database.engine.begin() as connection:
        statement = text(f"UPDATE {table.name} SET {changes} WHERE {where}")
        assert connection.execute(statement, parameters).rowcount == 1


def as_stored(database, value: Any) -> Any:
    if not database.is_sqlite:
        return value
    if isinstance(value, uuid.UUID):
        return value.hex
    return value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, datetime) else value


@pytest.fixture(params=range(8))
def choice(request) -> int:
    return request.param


@pytest.fixture
def rows(database, choice):
    """A readable and an unreadable row in every table, by what they are called."""
    good, bad = fill(database, "good"), fill(database, "bad")
    for table in reversed(Base.metadata.sorted_tables):
        if table.name != "route_set":
            spoil(database, table, bad, choice)
    return good, bad


@pytest.fixture
def waylink(database, tmp_path):
    url = database.engine.url.render_as_string(hide_password=False)
    return Command(tmp_path, {"WAYLINK_NANGO_SIGNING_KEYS": "hunter2", "WAYLINK_DATABASE_URL": url})


LISTS = [
    "audit", "connections", "destinations", "events", "jobs", "orgs", "rejections", "routes", "teams",
    "users", "bulk-runs", "reconcile list", "token list", "refreshes", "refreshes paused",
]  # fmt: skip
PATHS = [
    "audit", "connections", "destinations", "events", "jobs", "organizations", "rejections", "routes",
    "refreshes", "refreshes/pauses", "users", "reconciliations", "bulk-runs",
]  # fmt: skip


SOME = pytest.mark.parametrize("choice", [0, 3, 6], indirect=True)


@SOME
def test_every_listing_of_the_cli_has_all_rows(waylink, rows):
    for name in LISTS:
        shown = waylink.json(*name.split())
        assert len(shown) == 2, (name, shown)
        assert waylink.inside(*name.split()).returncode == 0
    for part in rows:
        for noun, prefix, key in (
            ("connections", CONNECTION, "connections.id"), ("events", EVENT, "events.id"), ("jobs", JOB, "jobs.id"),
            ("orgs", ORGANIZATION, "organizations.id"), ("users", USER, "users.id"),
            ("reconcile", RECONCILIATION, "reconciliations.id"),
            ("bulk-runs", BULK_RUN, "bulk_runs.id"), ("refreshes", REFRESH, "refreshes.id"),
        ):  # fmt: skip
            assert waylink.json(noun, "show", show(prefix, part[key]))["id"] == show(prefix, part[key])
    done = waylink.inside("status", "--json")
    assert (done.returncode, '"database"' in done.stdout) == (1, True)  # no broker is there


@SOME
def test_every_listing_of_the_api_has_all_rows(database, broker_url, rows, tmp_path):
    url = database.engine.url.render_as_string(hide_password=False)
    with open_api(database_url=url, broker_url=broker_url, folder=tmp_path) as api:
        for path in PATHS:
            assert len(api.json(f"/{path}")["data"]) >= 2, path
        good, bad = rows
        shown = {connection["id"]: connection for connection in api.json("/connections")["data"]}
        assert shown[show(CONNECTION, bad["connections.id"])]["expires_at"] is None
        assert shown[show(CONNECTION, good["connections.id"])]["expires_at"] == NOW.isoformat()
        for part in rows:
            for path, prefix, key in (
                ("connections", CONNECTION, "connections.id"), ("events", EVENT, "events.id"), ("jobs", JOB, "jobs.id"),
                ("reconciliations", RECONCILIATION, "reconciliations.id"),
                ("bulk-runs", BULK_RUN, "bulk_runs.id"), ("refreshes", REFRESH, "refreshes.id"),
            ):  # fmt: skip
                assert api.json(f"/{path}/{show(prefix, part[key])}")["id"] == show(prefix, part[key])
        assert api.json("/queues")


def test_the_rows_are_named_by_column_once(database, rows):
    _, bad = rows
    with closing(engine.connect(database.engine.url.render_as_string(hide_password=False))) as opened:
        with capture_logs() as logs:
            for _ in range(3):
                with opened.read() as session:
                    for table in Base.metadata.sorted_tables:
                        assert len(session.execute(select(table)).all()) == (1 if table.name in ONE_ROW else 2)
        named = {line["column"]: line["rows"] for line in logs}
        assert {line["event"] for line in logs} == {"value_unreadable"}
        assert len(named) == len(logs)
        assert named["connections.expires_at"] == [show(CONNECTION, bad["connections.id"])]
        assert named["events.received_at"] == [show(EVENT, bad["events.id"])]
        moments = {
            str(column) for table in Base.metadata.sorted_tables for column in spoilable(table) if is_moment(column)
        }
        assert moments <= named.keys()
