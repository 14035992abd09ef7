"""The database and the sender of hints as commands open them, and the actor for the audit."""

import getpass
from collections.abc import Iterator
from contextlib import closing, contextmanager

from app.brokers.celery_broker import Broker
from app.brokers.hints import Hints
from app.config.loading import load_database
from app.config.settings_groups import DatabaseSettings, HintSettings
from app.db.engine import Database, connect
from app.db.schema_version import require_current


def open_current(settings: DatabaseSettings) -> Database:
    """The database, at this release's schema. Raises DatabaseNotMigrated."""
    database = connect(settings.database)
    try:
        require_current(database)
    except BaseException:
        database.close()
        raise
    return database


def open_database() -> Database:
    """The database that the variables name. Raises ConfigurationError and DatabaseNotMigrated."""
    return open_current(load_database())


@contextmanager
def open_hints(settings: HintSettings) -> Iterator[Hints]:
    with closing(Broker.at("internal", settings.broker)) as broker:
        yield Hints(broker)


def cli_actor() -> str:
    """`cli:<os user>`; a user that the system cannot name is `cli:unknown`."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"
