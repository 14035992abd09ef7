"""Constraints of the schema hold what promises rest on, on both databases."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Index, insert, inspect, text
from sqlalchemy.exc import IntegrityError, SAWarning

from app.db import engine, migrate, schema_version
from app.db.models import (
    SQLITE_FOREIGN_KEYS,
    Base,
    Connection,
    Event,
    Job,
    Link,
    Organization,
    Refresh,
    RouteVersion,
    User,
)
from app.errors import DatabaseNotMigrated
from app.ids import new_id
from tests.integration.world import DANA, auth, in_threads
from tests.waiting import PATIENCE


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'new.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = engine.connect(url)
    yield database
    database.close()


def test_models_and_migrations_agree(database):
    with database.engine.connect() as connection, warnings.catch_warnings():
        # SQLite's expression index cannot be compared; the next test finds it by name.
        warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index", SAWarning)
        warnings.filterwarnings("ignore", "autogenerate skipping metadata-specified expression-based index")
        options = {"compare_type": True, "compare_server_default": True}
        others = _only_postgresql_has if database.is_sqlite else _only_sqlite_has
        options["include_object"] = lambda item, *_: not others(item)
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


def test_every_partial_index_and_check_of_the_models_is_in_the_database(database):
    with database.engine.connect() as connection:
        inspector = inspect(connection)
        for table in Base.metadata.sorted_tables:
            checks = {constraint["name"] for constraint in inspector.get_check_constraints(table.name)}
            assert checks == {
                constraint.name for constraint in table.constraints if type(constraint).__name__ == "CheckConstraint"
            }
        kept = _index_definitions(connection)
    for table in Base.metadata.sorted_tables:
        for index in table.indexes:
            if database.is_sqlite and _only_postgresql_has(index):
                continue
            where = index.dialect_options["postgresql"]["where"]
            definition = kept[index.name]
            assert ("UNIQUE" in definition) is bool(index.unique)
            assert (" WHERE " in definition) is (where is not None)


def test_tables_that_are_written_per_event_have_foreign_keys_on_sqlite_only(database):
    with database.engine.connect() as connection:
        inspector = inspect(connection)
        found = {
            f"{table.name}.{'+'.join(key['constrained_columns'])}"
            for table in Base.metadata.sorted_tables
            for key in inspector.get_foreign_keys(table.name)
        }
    ours = {"events.connection_ref", "jobs.event_id", "jobs.team+destination", "users.organization_id"} | {
        f"links.{column}" for column in ("connection_ref", "user_id", "organization_id")
    }
    assert found & ours == (ours if database.is_sqlite else set())
    assert found >= {"decisions.event_id", "attempts.job_id", "repeats.event_id", "refreshes.connection_ref"}


def _only_postgresql_has(item):
    return isinstance(item, Index) and bool(item.dialect_options["postgresql"]["using"])


def _only_sqlite_has(item):
    return any(item is key for key in SQLITE_FOREIGN_KEYS)


def _index_definitions(connection):
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))
    else:
        rows = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"))
    return dict(tuple(row) for row in rows)


def test_a_database_without_schema_is_refused_with_the_command_to_run(empty):
    with pytest.raises(DatabaseNotMigrated, match="waylink migrate"):
        schema_version.require_current(empty)


def test_a_database_of_another_release_is_refused_with_both_revisions(database):
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseNotMigrated, match=r"9999.*needs.*later release"):
        schema_version.require_current(database)


def test_each_migration_is_in_a_file_of_its_name_and_the_last_of_them_is_the_head():
    scripts = ScriptDirectory.from_config(migrate._config())
    assert [Path(revision.path).name.partition("_")[0] for revision in scripts.walk_revisions()] == [
        revision.revision for revision in scripts.walk_revisions()
    ]
    assert schema_version.head() == scripts.get_current_head()


def test_migrating_twice_and_by_two_at_once_is_migrating_once(empty):
    in_threads(lambda: migrate.upgrade(empty), lambda: migrate.upgrade(empty))
    assert migrate.upgrade(empty) == schema_version.current(empty) == schema_version.head()
    schema_version.require_current(empty)


def test_sqlite_is_set_up_to_lose_nothing(tmp_path):
    database = engine.connect(f"sqlite:///{tmp_path / 'new.db'}")
    with database.engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in pragmas}
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_a_time_without_zone_is_refused_and_others_come_back_as_utc(world, clock):
    event_id = world.handle(b"A")
    with world.database.write() as session:
        session.get(Event, event_id).received_at = clock.now.astimezone(tz=None)
    assert world.event(event_id).received_at == clock.now
    assert world.event(event_id).received_at.utcoffset() == timedelta(0)
    with pytest.raises(Exception, match="without zone"), world.database.write() as session:
        session.get(Event, event_id).received_at = clock.now.replace(tzinfo=None)


@pytest.fixture
def filled(world):
    """One row of everything, made by the services."""
    world.route(created={"type": ["connection.created"]})
    world.handle(auth(tags=DANA))
    connection = world.connection("c-1")
    now = world.clock.now
    plan = {"refresh_at": now, "next_at": now, "forced": False, "reason": "", "attempts": 0, "failures": 0}
    world.add(Refresh(id=new_id(), connection_ref=connection.id, created_at=now, **plan))
    return world


def copy_of(row, **changes):
    """The values of a row, under a new id."""
    return {column.name: getattr(row, column.name) for column in row.__table__.columns} | {"id": new_id()} | changes


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        pytest.param(Link, {}, id="a second open link of a connection"),
        pytest.param(Link, {"closed_at": None, "user_id": None, "organization_id": None}, id="a link to nobody"),
        pytest.param(Job, {}, id="a second job of an event and a route"),
        pytest.param(Job, {"route": "other", "state": "lost"}, id="a job in a state that does not exist"),
        pytest.param(Connection, {}, id="a second connection under a key"),
        pytest.param(Connection, {"connection_id": "c-2", "status": "odd"}, id="a connection of an unknown status"),
        pytest.param(Refresh, {}, id="a second open plan of a connection"),
        pytest.param(Event, {"state": "lost"}, id="an event in a state that does not exist"),
        pytest.param(Event, {"origin": "nowhere"}, id="an event of an unknown origin"),
        pytest.param(User, {}, id="a second user of an external id"),
        pytest.param(Organization, {}, id="a second organization of an external id"),
    ],
)
def test_the_schema_refuses(filled, model, changes):
    row = filled.all(model)[0]
    with pytest.raises(IntegrityError), filled.database.write() as session:
        session.execute(insert(model).values(**copy_of(row, **changes)))


def test_the_schema_refuses_a_second_living_version_of_a_route(filled):
    with filled.database.read() as session:
        row = session.query(RouteVersion).one()
    values = copy_of(row, version=2)
    del values["id"]
    with pytest.raises(IntegrityError), filled.database.write() as session:
        session.execute(insert(RouteVersion).values(**values))


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        pytest.param(Link, {"closed": "closed_at"}, id="closed links"),
        pytest.param(Refresh, {"closed": "finished_at"}, id="finished plans"),
    ],
)
def test_the_schema_keeps_any_number_of_past_ones(filled, model, changes):
    row = filled.all(model)[0]
    with filled.database.write() as session:
        for _ in range(2):
            session.execute(insert(model).values(**copy_of(row, **{changes["closed"]: filled.clock.now})))
    assert len(filled.all(model)) == 3


def test_an_upgrade_waits_for_another_host_however_long_it_takes(postgres_url):
    impatient = f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-c%20lock_timeout%3D100ms"
    with (
        closing(engine.connect(postgres_url)) as other,
        closing(engine.connect(impatient)) as database,
        ThreadPoolExecutor(1) as pool,
        other.engine.connect() as connection,
    ):
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": migrate._ADVISORY_LOCK})
        upgrade = pool.submit(migrate.upgrade, database)
        with pytest.raises(TimeoutError):
            upgrade.result(1)
        connection.rollback()
        assert upgrade.result(PATIENCE) == schema_version.head()
