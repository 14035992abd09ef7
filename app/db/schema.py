"""The schema's release: bring it up to date, or say that it is not."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.db.engine import Database
from app.errors import DatabaseNotMigrated

# Any number will do, so long as it is always the same: two hosts that deploy at once migrate one after the other.
_ADVISORY_LOCK = 0x5761796C696E6B


def upgrade(database: Database) -> str:
    """Run the missing migrations, one process at a time. Returns the revision reached."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            # SQLite's own write lock serializes: the whole upgrade is one BEGIN IMMEDIATE.
            with connection.begin():
                return _upgrade(connection)
        with connection.begin():
            # An index on a large table takes its time, and so does another host's upgrade.
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            return _upgrade(connection)


@cache
def head() -> str:
    """The revision this release needs."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - the package always ships migrations
    return revision


def current(database: Database) -> str | None:
    """The revision the database is at; None without a Waylink schema."""
    with database.read() as session:  # on SQLite any other transaction would wait for the write lock
        return MigrationContext.configure(session.connection()).get_current_revision()


def require_current(database: Database) -> None:
    """Raises DatabaseNotMigrated, which names the command to run."""
    found, expected = current(database), head()
    if found != expected:
        raise DatabaseNotMigrated(found=found, expected=expected)


def require_current_unless_away(database: Database) -> str | None:
    """The same for web: why the database does not answer, or None.

    Who starts while the database restarts would otherwise end, and nobody would hold the requests that come meanwhile.
    And who starts while an upgrade is under way can store webhooks in a schema that is ahead of it.
    """
    try:
        require_current(database)
    except DatabaseNotMigrated as other:
        if not other.newer:
            raise
    except DBAPIError as away:
        return str(away.orig).strip().partition("\n")[0]
    return None


def _upgrade(connection: Connection) -> str:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
