"""A migrated database of either kind, and a Nango to go with it."""

import shutil
import uuid
from datetime import timedelta

import pytest
import structlog

from app.db import engine, migrate
from app.services.maintenance import integrity
from tests.integration import world as worlds
from tests.integration.lock_order import watched
from tests.integration.sandbox.sandbox_server import serve
from tests.waiting import PATIENCE


@pytest.fixture(scope="session", autouse=True)
def _plain_logs():
    """The default renders each traceback with its variables, which takes seconds."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _slow_is_not_away(monkeypatch):
    """On a loaded machine all takes long: no call within the tests' own process may pass for one that hangs."""
    for place in (
        "outbound.network.CONNECT_SECONDS",
        "services.budget.TIMEOUT",
        "services.events.lookups.HELD_UP",
        "services.connections.operations.WAIT_SECONDS",
        "web.api.bulk_runs.SECONDS",
        "web.api.pool.LONGEST_WAIT",
        "web.health.CHECK_SECONDS",
        "web.metrics.SCRAPE_SECONDS",
    ):
        monkeypatch.setattr(f"app.{place}", PATIENCE)
    monkeypatch.setattr("app.db.application_database.CONNECT_SECONDS", round(PATIENCE))
    for place in ("events.processor.CONFIRM_DEADLINE", "sql_directory.DIRECTORY_DEADLINE"):
        monkeypatch.setattr(f"app.services.{place}", timedelta(seconds=3 * PATIENCE))


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "waylink.db"
    _migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def _postgres_template(postgres):
    postgres.start()
    url = postgres.create_database()
    _migrate(url)
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Migrated and empty.

    Whatever a test did, no token of the sandbox may rest in it afterwards (promise 7), no reference may be broken, and
    on PostgreSQL each transaction that linked took the owners' lock first.
    """
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_template"), tmp_path / "waylink.db")
        opened = engine.connect(f"sqlite:///{tmp_path / 'waylink.db'}", pool_size=10)
        yield opened
        _finish(opened)
        return
    postgres = request.getfixturevalue("postgres")
    template = request.getfixturevalue("_postgres_template")
    postgres.start()
    url = postgres.create_database(template)
    opened = engine.connect(url, pool_size=10)
    with watched(opened.engine) as wrong:
        yield opened
    _finish(opened)
    postgres.drop_database(url)
    assert not wrong


@pytest.fixture
def clock():
    return worlds.Clock()


@pytest.fixture
def open_world(database, clock):
    """Makes worlds on the one database: other workers, or the same ones configured anew."""
    opened = []

    def make(**settings):
        opened.append(worlds.World(database, clock, **settings))
        return opened[-1]

    yield make
    for world in opened:
        world.close()


@pytest.fixture
def world(open_world):
    """An environment with signing keys only: bodies are all there is."""
    return open_world()


@pytest.fixture(scope="session")
def _sandbox():
    with serve() as client:
        yield client


@pytest.fixture
def nango(_sandbox):
    """The sandbox over HTTP, without faults and with its settings as at the start. Connections stay: name new ones."""
    before = _sandbox.get("/sandbox/settings").raise_for_status().json()
    changeable = ("replica_lag", "token_lifetime", "rate_limit_per_minute", "recovery_events", "deletion_events")
    yield _sandbox
    _sandbox.delete("/sandbox/faults").raise_for_status()
    _sandbox.patch("/sandbox/settings", json={name: before[name] for name in changeable}).raise_for_status()


@pytest.fixture
def connection_id():
    """One that the sandbox has not seen."""
    return str(uuid.uuid4())


@pytest.fixture
def base_url(nango):
    return str(nango.base_url).rstrip("/")


@pytest.fixture
def gate(base_url):
    """A proxy in front of the sandbox, to count calls and to act while one is in flight."""
    with worlds.gate(base_url) as door:
        yield door


def _migrate(url):
    database = engine.connect(url)
    migrate.upgrade(database)
    database.close()


def _finish(database):
    held, broken = worlds.TOKEN.findall(worlds.dump(database)), integrity.broken(database)
    database.close()
    assert not broken
    assert not held, "credentials of the sandbox rest in the database"
