"""Release of the database's schema, and whether it is the one that this code needs. `migrate` upgrades it."""

from functools import cache
from pathlib import Path
from typing import Final

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.engine import Database, sqlite_file
from app.errors import DatabaseNotMigrated
from app.outage_causes import of_database

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@cache
def head() -> str:
    """The revision this release needs; migrations' file names begin with their revisions."""
    return max(file.name for file in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def current(database: Database) -> str | None:
    """The database's revision; None without a Waylink schema."""
    with database.read() as session:  # on SQLite other transactions would wait for the write lock
        connection = session.connection()
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found


def require_current(database: Database) -> None:
    """Raises DatabaseNotMigrated, which names the command to run."""
    url = database.engine.url.render_as_string(hide_password=False)
    file = sqlite_file(url)
    # Connecting would create the file in the working folder.
    found, expected = None if file and not file.exists() else current(database), head()
    if found != expected:
        raise DatabaseNotMigrated(found=found, expected=expected, where=shown(database))


def require_not_newer(database: Database) -> None:
    """Raises DatabaseNotMigrated where a later release has migrated the database."""
    found, expected = current(database), head()
    if found is not None and found not in revisions():
        raise DatabaseNotMigrated(found=found, expected=expected, where=shown(database))


@cache
def revisions() -> frozenset[str]:
    """All revisions that this release knows."""
    return frozenset(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def shown(database: Database) -> str:
    """The database's name and place, without user and password."""
    url = database.engine.url
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or str(url.query.get("host", ""))
    return f"{url.database} at {host}{f':{url.port}' if url.port else ''}"


def takes_writes(session: Session) -> bool:
    """Whether the server accepts writes: false for one that is read-only by its settings, or a standby."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return True
    # Not `transaction_read_only`, which holds for each transaction that only reads.
    setting = "NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off'"
    return bool(connection.scalar(text(f"SELECT {setting}")))


def require_current_unless_away(database: Database) -> str | None:
    """The check for web: the reason why the database does not answer, or None.

    Web starts while the database restarts, so that it can hold requests meanwhile, and during an upgrade, since it can
    store webhooks in a newer schema.
    """
    try:
        require_current(database)
    except DatabaseNotMigrated as other:
        if not other.newer:
            raise
    except DBAPIError as away:
        return of_database(away)
    return None
