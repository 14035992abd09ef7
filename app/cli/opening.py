"""The database, as a command needs it."""

from app.db.engine import Database, connect
from app.db.schema import require_current
from app.part_settings import DatabaseSettings


def open_current(settings: DatabaseSettings) -> Database:
    """The database, at this release's schema. Raises DatabaseNotMigrated."""
    database = connect(settings.database)
    try:
        require_current(database)
    except BaseException:
        database.close()
        raise
    return database
