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
# What does not fit into PostgreSQL's least working memory goes into a file that it deletes at once: no row is written.
_SPILL: Final = """
    WITH filled AS MATERIALIZED (SELECT repeat('x', 8000) AS block FROM generate_series(1, 525))
    SELECT count(block) FROM filled
"""
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


def room_trouble(database: Database) -> str | None:
    """DISK_FULL where the disk of PostgreSQL's tables has no 4 MB left, by a temporary file there; None otherwise.

    A table that has to grow is refused then, although rows that fit into its pages are still taken.
    """
    if database.is_sqlite:
        return None
    try:
        with database.dry_run() as session:
            session.execute(text("SET LOCAL work_mem = '64kB'"))
            session.execute(text("SET LOCAL temp_tablespaces = ''"))  # where the database's tables are
            session.execute(text(_SPILL))
    except DBAPIError as failed:
        return DISK_FULL if trouble_of_database(failed) == DISK_FULL else None  # others are found by reading
    return None


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
