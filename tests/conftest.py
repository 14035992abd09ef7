"""Fixtures that need a server, and the rule that a skipped test is a failure where everything is to be run."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.drawing import draw_by, seed_of_this_test
from tests.servers import PostgresServer, ValkeyServer, in_memory

# Where SQLite's files of the tests are; what passed takes its own away (pyproject.toml).
if (memory := in_memory()) is not None:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))

BROWSER_TESTS = Path(__file__).parent / "browser"


def pytest_configure(config: pytest.Config) -> None:
    seed = config.getoption("--hypothesis-seed")
    draw_by(None if seed is None else int(seed))


@pytest.fixture(autouse=True)
def _random_starts_alike(request: pytest.FixtureRequest) -> None:
    """Seed `random` for each test, so that draws of the code, such as waits, do not depend on earlier tests."""
    random.seed(seed_of_this_test(request.node.nodeid))


@pytest.fixture(autouse=True)
def _no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's own settings of Waylink from the environment."""
    for name in [
        variable for variable in os.environ if variable.startswith("WAYLINK_") and variable != "WAYLINK_NO_SKIPS"
    ]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _loggers_stay_changeable() -> Iterator[None]:
    """Don't cache loggers: one cached at its first use would bypass the capture of a later test."""
    usual = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: usual(**{**how, "cache_logger_on_first_use": False}))
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the whole run. A test that stops or kills it starts it again, whatever happens."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A fresh, empty database."""
    postgres.start()
    url = postgres.create_database()
    yield url
    postgres.start()
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """One server for the whole run; `broker_url` empties it between tests."""
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def broker_url(valkey: ValkeyServer) -> str:
    """Database 0 of an empty broker; `valkey.url(1)` is where teams are."""
    valkey.start()
    valkey.flush()
    return valkey.url(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if BROWSER_TESTS in item.path.parents:
            item.add_marker("browser")
        if item.get_closest_marker("hypothesis"):
            item.add_marker("draws")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _forbidden_skips(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skipped := _forbidden_skips(config):
        terminalreporter.section("skipped tests are failures here (WAYLINK_NO_SKIPS)", red=True)
        terminalreporter.line(f"{skipped} skipped")


def _forbidden_skips(config: pytest.Config) -> int:
    """The number of skipped tests and modules, if none may be skipped; otherwise 0."""
    if os.environ.get("WAYLINK_NO_SKIPS") != "1":
        return 0
    reporter = config.pluginmanager.getplugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0
