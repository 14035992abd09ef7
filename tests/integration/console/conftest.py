"""A console on SQLite, shared by the tests of a module, each of which uses rows of its own."""

import pytest

from tests.integration.console.pages import open_console


@pytest.fixture(scope="module")
def console(tmp_path_factory, valkey):
    folder = tmp_path_factory.mktemp("console")
    valkey.start()
    with open_console(database_url=f"sqlite:///{folder}/waylink.db", broker_url=valkey.url(0), folder=folder) as opened:
        yield opened
