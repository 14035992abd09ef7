"""Schema upgrades. Separate from `schema`, since Alembic is slow to load, at each start."""

from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from app.db.bounded_connection import unbounded
from app.db.engine import Database, sqlite_file
from app.db.schema_version import MIGRATIONS, head, require_not_newer

# An arbitrary constant: two hosts that deploy at once migrate one after the other.
_ADVISORY_LOCK: Final = 0x5761796C696E6B


def upgrade(database: Database) -> str:
    """Run the missing migrations, one process at a time; creates the folder of a SQLite database.

    Returns the revision reached. Raises DatabaseNotMigrated where a later release has migrated the database.
    """
    if (file := sqlite_file(database.engine.url.render_as_string(hide_password=False))) is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    require_not_newer(database)
    with database.engine.connect() as connection:
        if database.is_sqlite:
            # SQLite's own write lock serializes: the whole upgrade is one BEGIN IMMEDIATE.
            with connection.begin():
                _upgrade(connection, "head")
        else:
            while _one_on_postgresql(connection):
                pass
    return head()


def _one_on_postgresql(connection: Connection) -> bool:
    """Run the next missing migration, as a transaction: the next one may have to wait for a lock, and holds none then.

    Returns False where none is missing.
    """
    # An index on a large table takes long, and so does another host's upgrade.
    with connection.begin(), unbounded(connection):
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        found = MigrationContext.configure(connection).get_current_revision()
        if found == head():
            return False
        # No other process uses a database that is empty.
        _upgrade(connection, "+1" if found else "head")
        return True


def _upgrade(connection: Connection, to: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config
