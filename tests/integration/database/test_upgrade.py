"""A full database of the release before keeps every row when it is brought up to date, on both databases."""

import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from app.db import bulk, decisions, engine, event_actions, migrate, schema_version
from app.db.migrations import locks
from app.db.models import (
    SQLITE_FOREIGN_KEYS,
    Attempt,
    Base,
    Connection,
    Decision,
    Destination,
    Event,
    Job,
    Refresh,
    Repair,
    Repeat,
    RouteVersion,
    Team,
)
from app.db.read import listing
from app.errors import Conflict
from app.ids import first_id, new_id
from app.services.maintenance import integrity
from tests.waiting import PATIENCE, until

NOW = datetime(2026, 8, 21, 12, 0, 1, 234567, tzinfo=UTC)
# What a column needs that a value of its type alone would not meet: checks, keys and references.
VALUES: dict[str, Any] = {
    "events.state": "failed",
    "events.origin": "webhook",
    "connections.status": "needs_reconnect",  # for one that is active and has expired, a plan would be added
    "destinations.kind": "celery",
    "jobs.state": "discarded",
    "audit.outcome": "done",
    "reconciliations.trigger": "demand",
    "reconciliations.stage": "done",
    "refresh_pauses.cause": "operator",
    "processes.kind": "io",
    "acknowledgements.kind": "jobs",
    "bulk_runs.state": "done",
    "operators.role": "team",
    "saved_views.page": "events",
    "operators.credentials": False,
    "operators.password_hash": None,
}

# References that the models have and PostgreSQL does not hold.
REFERENCES = {str(part.parent): str(part.column) for key in SQLITE_FOREIGN_KEYS for part in key.elements}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with closing(engine.connect(url)) as opened:
        yield opened


def upgrade_to(database, revision):
    """As `upgrading.upgrade`, but not to the end."""
    with database.engine.begin() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def tables_of(database):
    """The tables as they are in the database, in the models' order: referenced ones first."""
    found = MetaData()
    with database.engine.connect() as connection:
        found.reflect(
            connection, only=[table for table in inspect(connection).get_table_names() if table[:8] != "alembic_"]
        )
    return [found.tables[table.name] for table in Base.metadata.sorted_tables if table.name in found.tables]


def row_of(table: Table, known: dict[str, Any]) -> dict[str, Any]:
    """A row with a value in every column, references included."""
    row = {}
    for column in table.columns:
        name = f"{table.name}.{column.name}"
        target = next((str(key.column) for key in column.foreign_keys), REFERENCES.get(name))
        row[column.name] = known[target] if target else VALUES.get(name, value_of(column))
        known[name] = row[column.name]
    return row


def value_of(column) -> Any:
    # SQLite reports a UUID as CHAR(32), other types by their names.
    kind = type(column.type).__name__
    if kind in {"UUID", "Uuid"}:
        return uuid.uuid5(uuid.NAMESPACE_OID, str(column))
    if kind == "CHAR":
        return uuid.uuid5(uuid.NAMESPACE_OID, str(column)).hex
    plain = {
        "TEXT": "text \N{SNOWMAN}", "BYTEA": b"\x00\xff", "BLOB": b"\x00\xff", "BIGINT": 1 << 40, "SMALLINT": 1,
        "INTEGER": 1, "BOOLEAN": True, "JSON": {"a": [1, None]}, "JSONB": {"a": [1, None]}, "FLOAT": 1.5, "DOUBLE": 1.5,
        "DOUBLE_PRECISION": 1.5, "ARRAY": [], "TIMESTAMP": NOW, "DATETIME": NOW.replace(tzinfo=None),
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


@pytest.mark.parametrize("revision", ["0001", "0009", "0012", "0013", "0014", "0015", "0020"])
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_an_upgrade_keeps_every_row_of_every_table(database, revision):
    upgrade_to(database, revision)
    tables = tables_of(database)
    fill(database, tables)
    before = rows_of(database, tables)
    assert len(before) >= 14
    assert all(len(rows) == 1 for rows in before.values()), before
    assert migrate.upgrade(database) == schema_version.head()
    assert rows_of(database, tables) == before
    assert integrity.broken(database) == []
    schema_version.require_current(database)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # on SQLite no other process can write meanwhile
def test_an_index_that_was_made_beforehand_by_hand_is_taken_as_it_is(database):
    upgrade_to(database, "0001")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table, state in (("events", "failed"), ("jobs", "discarded")):
            statement = f"CREATE INDEX CONCURRENTLY ix_{table}_{state} ON {table} (id) WHERE state = '{state}'"
            connection.exec_driver_sql(statement)
    assert migrate.upgrade(database) == schema_version.head()


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
        copies = [found for found in tables_of(database) if found.name == table]
        add_copies(database, copies[0], column, [*kept, *wrong])
    with database.engine.connect() as connection:
        before = {table: connection.scalar(text(f"SELECT count(*) FROM {table}")) for table, _ in columns}
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        for table, column in columns:
            count, present = connection.execute(text(f"SELECT count(*), count({column}) FROM {table}")).one()
            assert (count, present) == (before[table], 1 + len(kept))


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.parametrize(
    ("changes", "planned"),
    [
        ({}, True),
        ({"status": "deleted"}, False),
        ({"status": "needs_reconnect"}, False),
        ({"expires_at": "2999-01-01 00:00:00"}, False),
        ({"expires_at": None}, False),
        ({"auth_mode": "API_KEY"}, True),  # its expiry was learnt by a read, and nothing checked it again
        ({"auth_mode": None}, True),
    ],
    ids=str,
)
def test_a_connection_that_expired_unseen_is_checked_after_the_upgrade(database, changes, planned):
    """An earlier release planned no more for it, and it stayed `active`."""
    upgrade_to(database, "0008")
    fill(database, tables_of(database))
    facts = {"status": "active", "expires_at": "2026-01-01 00:00:00", "auth_mode": "OAUTH2"} | changes
    with database.engine.begin() as connection:
        for name, value in facts.items():
            cast = "CAST(:value AS timestamptz)" if name == "expires_at" and not database.is_sqlite else ":value"
            connection.execute(text(f"UPDATE connections SET {name} = {cast}"), {"value": value})
    migrate.upgrade(database)
    with database.read() as session:
        [connection] = session.scalars(select(Connection))
        found = session.scalars(select(Refresh).where(Refresh.finished_at.is_(None))).all()
        assert [(plan.connection_ref, plan.forced, plan.attempts) for plan in found] == [
            (connection.id, False, 0)
        ] * planned
        assert all(plan.refresh_at == plan.next_at >= plan.created_at for plan in found)


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
@pytest.mark.parametrize(("status", "cases"), [("needs_reconnect", 1), ("active", 0), ("deleted", 0)])
def test_a_connection_that_needs_its_end_user_has_a_case_after_the_upgrade(database, status, cases):
    upgrade_to(database, "0020")
    fill(database, tables_of(database))
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE connections SET status = :status"), {"status": status})
    migrate.upgrade(database)
    with database.read() as session:
        [connection] = session.scalars(select(Connection))
        found = [
            (case.connection_ref, case.integration, case.cause, case.failing_since, case.opened_at, case.closed_at)
            for case in session.scalars(select(Repair))
        ]
        at = connection.last_error_at
        assert at is not None
        named = connection.id, connection.integration, connection.last_error_type
        assert found == [(*named, at, at, None)] * cases


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


# 0010: names of routes are their team's own


PLAIN = {"attempts": 1, "crashes": 0, "next_at": NOW, "created_at": NOW}
EVENT = first_id(NOW)


def write(database, model, *rows):
    """As the release before writes: straight to the tables, without the columns that it does not know."""
    with database.write() as session:
        for row in rows:
            bulk.insert(session, model, [row])


def route_row(name, version, team, *, since, until=None):
    where = {"name": name, "version": version, "team": team, "destination": "jobs", "job": f"{team}.{name}"}
    return where | {"pattern": {}, "source": "file", "since_set": since, "until_set": until, "created_at": NOW}


def decision_row(route, version, **team):
    return {"event_id": EVENT, "route": route, "route_version": version, "conditions": [], "created_at": NOW, **team}


def job_row(route, team, version=1):
    named = {"route": route, "route_version": version, "team": team, "destination": "jobs", "name": f"{team}.{route}"}
    return {"id": new_id(), "event_id": EVENT, "state": "completed", **named, **PLAIN}


@pytest.fixture
def before(database):
    """The release before: a route that moved to another team, another one, and an event that both matched."""
    upgrade_to(database, "0009")
    teams = ("crm", "erp")
    write(database, Team, *({"name": team, "source": "file", "created_at": NOW} for team in teams))
    place = {"name": "jobs", "kind": "celery", "source": "file", "created_at": NOW}
    write(database, Destination, *({"team": team, "queue": f"team.{team}.jobs", **place} for team in teams))
    write(
        database,
        RouteVersion,
        route_row("import", 1, "crm", since=1, until=2),
        route_row("import", 2, "erp", since=2),
        route_row("mail", 1, "crm", since=1),
    )
    facts = {"environment": "default", "origin": "webhook", "state": "processed", "duplicates": 0, "looks": 0}
    times = {"received_at": NOW, "last_seen_at": NOW, "next_at": NOW, "attempts": 1}
    write(database, Event, {"id": EVENT, "document": {"type": "x"}, "route_set": 1, **facts, **times})
    write(database, Decision, decision_row("import", 1), decision_row("mail", 1))
    job = job_row("mail", "crm")
    write(database, Job, job_row("import", "crm"), job)
    tried = {"started_at": NOW, "latency_ms": 1.0, "outcome": "completed"}
    write(database, Attempt, *({"job_id": job["id"], "number": number, **tried} for number in (1, 2)))
    migrate.upgrade(database)
    return database


def routed(database):
    with database.read() as session:
        return [
            (decision.team, decision.route, decision.route_version) for decision in decisions.of_event(session, EVENT)
        ]


def count(database, model):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(model))


def test_decisions_of_before_are_still_of_their_teams(before):
    assert routed(before) == [("crm", "import", 1), ("crm", "mail", 1)]
    assert [count(before, model) for model in (Decision, Job, Attempt, RouteVersion)] == [2, 2, 2, 3]
    # Other teams take the names and count from one: what was noted before is theirs no more for it.
    write(before, RouteVersion, route_row("import", 1, "erp", since=9, until=10), route_row("mail", 1, "erp", since=9))
    assert routed(before) == [("crm", "import", 1), ("crm", "mail", 1)]
    with before.read() as session:
        [own] = decisions.of_event(session, EVENT, team="erp") or [None]
        assert own is None
        found = listing.event(session, EVENT, team="crm")
    assert [(decision["team"], decision["route"]) for decision in found["decisions"]] == [
        ("crm", "import"),
        ("crm", "mail"),
    ]


def test_a_replay_adds_nothing_to_what_stands_from_before(before):
    decided = {"matched_version": 1, "conditions": []}
    with before.write() as session:
        made = event_actions.add_jobs(session, [job_row("mail", team) | decided for team in ("crm", "erp")])
    assert len(made) == 1
    assert routed(before) == [("crm", "import", 1), ("crm", "mail", 1), ("erp", "mail", 1)]
    assert [count(before, model) for model in (Decision, Job)] == [2, 3]


def test_the_release_before_goes_on_writing_and_a_job_of_both_is_one(before):
    """While processes are replaced one after the other."""
    write(before, RouteVersion, route_row("late", 1, "crm", since=3))
    write(before, Decision, decision_row("late", 1))
    write(before, Job, job_row("late", "crm"))
    assert routed(before)[1] == ("crm", "late", 1)
    for team, refused in (("crm", True), ("erp", False)):
        with pytest.raises(IntegrityError) if refused else nullcontext():
            write(before, Job, job_row("late", team))
    with pytest.raises(IntegrityError):
        write(before, RouteVersion, route_row("late", 2, "crm", since=4))
    write(before, RouteVersion, route_row("late", 1, "erp", since=4))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_keys_of_large_tables_can_be_made_beforehand_by_hand(database):
    upgrade_to(database, "0009")
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    [block] = [block for block in re.findall(r"```sql\n(.*?)```", page, re.S) if "uq_jobs_event_id_team_route" in block]
    statements = [statement for statement in block.split(";") if statement.strip()]
    assert len(statements) == 3
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    assert migrate.upgrade(database) == schema_version.head()


# 0013: jobs hold the decision that made them, and the first attempt where a broker accepted it

CONDITIONS = [{"path": "tags.plan", "expected": ["pro", {"prefix": "ent"}], "actual": "pro \N{SNOWMAN}"}]
FIRST = {"number": 1, "started_at": NOW, "latency_ms": 12.5, "outcome": "completed"}
FAILED = {"outcome": "retryable", "error": "answered 500", "status": 500, "response_excerpt": "no"}


def shown_attempts(*attempts):
    missing = dict.fromkeys(("status", "error", "response_excerpt"))
    return [{**missing, **attempt, "started_at": attempt["started_at"].isoformat()} for attempt in attempts]


@pytest.fixture
def of_0012(database):
    """The release before: two jobs of an event, one of them moved to a later version of its route, and a failed one."""
    upgrade_to(database, "0012")
    write(database, Team, {"name": "crm", "source": "file", "created_at": NOW})
    place = {"name": "jobs", "team": "crm", "kind": "celery", "queue": "team.crm.jobs"}
    write(database, Destination, {**place, "source": "file", "created_at": NOW})
    facts = {"environment": "default", "origin": "webhook", "state": "processed", "duplicates": 0, "looks": 0}
    times = {"received_at": NOW, "last_seen_at": NOW, "next_at": NOW, "attempts": 1}
    write(database, Event, {"id": EVENT, "document": {"type": "x"}, "route_set": 1, **facts, **times})
    write(database, Decision, *(decided(route) for route in ("import", "mail", "moved")))
    jobs = [job_row(route, "crm", version) for route, version in (("import", 1), ("mail", 1), ("moved", 3))]
    write(database, Job, *jobs)
    tried = [
        {"job_id": jobs[0]["id"], **FIRST},
        {"job_id": jobs[1]["id"], **FIRST, **FAILED},
        {"job_id": jobs[1]["id"], **FIRST, "number": 2},
    ]
    write(database, Attempt, *tried)
    migrate.upgrade(database)
    return database


def decided(route, **changes):
    return decision_row(route, 1, team="crm") | {"conditions": CONDITIONS} | changes


def explained(database, event_id=EVENT):
    with database.read() as session:
        return listing.event(session, event_id)["decisions"]


def attempt_logs(database):
    with database.read() as session:
        jobs = session.scalars(select(Job).order_by(Job.route))
        return {job.route: listing.job(session, job.id)["attempt_log"] for job in jobs}


def as_shown(*routes):
    return [{"team": "crm", "route": route, "route_version": 1, "conditions": CONDITIONS} for route in routes]


def test_decisions_and_attempts_of_before_are_shown_as_they_were(of_0012):
    assert explained(of_0012) == as_shown("import", "mail", "moved")
    assert attempt_logs(of_0012) == {
        "import": shown_attempts(FIRST),
        "mail": shown_attempts(FIRST | FAILED, {**FIRST, "number": 2}),
        "moved": [],
    }


def test_what_both_releases_write_beside_each_other_is_shown_alike(of_0012):
    """While processes are replaced one after the other."""
    new = {"matched_version": 1, "conditions": CONDITIONS, "started_at": NOW, "latency_ms": 12.5}
    job = job_row("new", "crm") | new
    write(of_0012, Job, job)
    write(of_0012, Decision, decided("old"))
    write(of_0012, Job, job_row("old", "crm"))
    assert explained(of_0012) == as_shown("import", "mail", "moved", "new", "old")
    assert attempt_logs(of_0012)["new"] == attempt_logs(of_0012)["import"]
    # The release before takes the new one's job: it is moved to another version, and delivered again.
    with of_0012.write() as session:
        bulk.update(session, Job, [{"id": job["id"], "route_version": 2, "attempts": 2}])
        bulk.insert(session, Attempt, [{"job_id": job["id"], **FIRST, **FAILED, "number": 2}])
    assert explained(of_0012) == as_shown("import", "mail", "moved", "new", "old")
    assert attempt_logs(of_0012)["new"] == shown_attempts(FIRST, {**FIRST, **FAILED, "number": 2})


# 0014: no foreign keys on tables that are written per event


@pytest.fixture
def without_keys(database):
    """A full database of the release before, brought up to date."""
    upgrade_to(database, "0013")
    fill(database, tables_of(database))
    migrate.upgrade(database)
    return database


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_release_before_goes_on_writing_all_of_an_event(without_keys):
    """While processes are replaced one after the other: new rows of all tables, and their deletion by its pruning."""
    tables = {table.name: table for table in tables_of(without_keys)}
    written = ["organizations", "users", "connections", "events", "links", "decisions", "jobs", "attempts", "repeats"]
    with without_keys.engine.begin() as connection:
        rows = {name: dict(connection.execute(select(tables[name])).mappings().one()) for name in written}
        # Each id once more under another one, wherever it stands.
        ids = {row["id"]: value_like(row["id"], number) for number, row in enumerate(rows.values()) if "id" in row}
        for name in written:
            row = {column: ids.get(value, value) if _is_id(value) else value for column, value in rows[name].items()}
            row |= {column: f"{row[column]} 2" for column in ("external_id", "connection_id") if column in row}
            row |= {"number": 2} if name == "repeats" else {}
            connection.execute(insert(tables[name]).values(row))
    assert [count(without_keys, model) for model in (Event, Decision, Job, Attempt)] == [2, 2, 2, 2]
    assert integrity.broken(without_keys) == []
    with without_keys.engine.begin() as connection:
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(text("DELETE FROM events"))
    assert [count(without_keys, model) for model in (Event, Decision, Job, Attempt, Repeat)] == [0, 0, 0, 0, 0]


def _is_id(value):
    return isinstance(value, uuid.UUID) or (isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value))


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("table", ["events", "connections", "jobs"])
@pytest.mark.parametrize("revision", ["0012", "0013"])
def test_while_a_table_is_in_use_the_upgrade_waits_and_nothing_waits_for_it(database, table, revision):
    """Such as by a backup: a lock that waits would let all work wait behind it."""
    upgrade_to(database, revision)

    def keys():
        with database.engine.connect() as connection:
            return connection.scalar(text("SELECT count(*) FROM pg_constraint WHERE conname = 'fk_jobs_event_id'"))

    def tried():
        with database.engine.connect() as connection:
            asked = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'")
            return connection.scalar(asked)

    with database.engine.connect() as using, ThreadPoolExecutor(1) as pool:
        using.execute(text(f"SELECT count(*) FROM {table}"))
        upgrade = pool.submit(migrate.upgrade, database)
        until("the upgrade asks for the locks", tried)
        with database.engine.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '60s'"))
            for name in ("events", "connections", "organizations", "users", "links", "destinations", "jobs"):
                other.execute(text(f"DELETE FROM {name}"))
        assert not upgrade.done()
        assert keys() == 1
        using.rollback()
        assert upgrade.result(PATIENCE) == schema_version.head()
    assert keys() == 0


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_an_upgrade_that_never_gets_its_locks_says_what_to_do(database, monkeypatch):
    upgrade_to(database, "0013")
    migration = ScriptDirectory.from_config(migrate._config()).get_revision("0014").module
    monkeypatch.setattr(locks, "TRIES", 2)
    monkeypatch.setattr(locks, "PAUSE", 0)
    with database.engine.connect() as using, database.engine.connect() as connection:
        using.execute(text("SELECT count(*) FROM links"))
        with Operations.context(MigrationContext.configure(connection)), pytest.raises(Conflict, match="pg_stat_acti"):
            migration.upgrade()
