"""The database as commands open it, and the actor for the audit."""

import getpass

from app.config.loading import load_database
from app.config.settings_groups import DatabaseSettings
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


def cli_actor() -> str:
    """`cli:<os user>`; a user that the system cannot name is `cli:unknown`."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"
