"""The database, as a command needs it."""

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
