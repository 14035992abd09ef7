"""Troubles that keep a database from storing, found without waiting for it."""

import os
import sqlite3
from contextlib import closing
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.db.engine import Database, sqlite_file
from app.outage_causes import DISK_FULL, LOCKED, UNREACHABLE, trouble_of_database

# The write-ahead log grows to 4 MB before its pages go into the file, and both are on this disk. With less, the next
# writes may still find room in the log, and those after them do not.
LEAST_FREE: Final = 4 * 1024 * 1024  # bytes
_WRITTEN: Final = ("connections", "deliveries", "events", "jobs")  # tables that each webhook's way writes to
_HOLDERS: Final = """
    SELECT DISTINCT pid FROM pg_locks
    WHERE locktype = 'relation' AND granted AND relation::regclass::text = ANY(:tables)
    AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY pid LIMIT 3
"""


def trouble_here(database: Database) -> str | None:
    """The name of the trouble that the file's disk shows; None without any, and for PostgreSQL, whose disk is another
    machine's.
    """
    file = sqlite_file(database.engine.url.render_as_string(hide_password=False))
    if file is None:
        return None
    try:
        disk = os.statvfs(file.parent)
    except OSError:
        return UNREACHABLE
    return DISK_FULL if disk.f_bavail * disk.f_frsize < LEAST_FREE else None


def lock_trouble(database: Database, *, seconds: float = 0.0) -> str | None:
    """LOCKED where another connection holds the file's write lock for so long, or at this moment, or on PostgreSQL the
    lock of a table, in a mode that lets no other write; None otherwise.
    """
    file = sqlite_file(database.engine.url.render_as_string(hide_password=False))
    if file is None:
        return None if database.is_sqlite else _table_lock(database, seconds)
    try:
        with closing(
            sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=seconds, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as failed:
        return trouble_of_database(failed)
    return None


def lock_holders(session: Session) -> list[int]:
    """Ids of PostgreSQL's processes whose sessions hold such a lock, three at most."""
    if session.get_bind().dialect.name == "sqlite":
        return []
    return list(session.scalars(text(_HOLDERS), {"tables": list(_WRITTEN)}))


def _table_lock(database: Database, seconds: float) -> str | None:
    try:
        with database.dry_run() as session:
            session.execute(text(f"SET LOCAL lock_timeout = '{max(1, round(seconds * 1000))}ms'"))
            session.execute(text(f"LOCK TABLE {', '.join(_WRITTEN)} IN ROW EXCLUSIVE MODE"))  # as each write takes it
    except DBAPIError as failed:
        return LOCKED if trouble_of_database(failed) == LOCKED else None  # other troubles are found by reading
    return None
