"""The database, as a command needs it."""

from app.config.loading import load_database
from app.config.parts import DatabaseSettings
from app.db.engine import Database, connect
from app.db.schema import require_current


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
