"""Troubles that keep a SQLite database from storing, found without waiting for it."""

import os
import sqlite3
from contextlib import closing
from typing import Final

from app.db.engine import Database, sqlite_file
from app.outage_causes import DISK_FULL, UNREACHABLE, trouble_of_database

# The write-ahead log grows to 4 MB before its pages go into the file, and both are on this disk. With less, the next
# writes may still find room in the log, and those after them do not.
LEAST_FREE: Final = 4 * 1024 * 1024  # bytes


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
    """LOCKED where other connections hold the file's write lock for so long, or at this moment; None otherwise."""
    file = sqlite_file(database.engine.url.render_as_string(hide_password=False))
    if file is None:
        return None
    try:
        with closing(
            sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=seconds, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as failed:
        return trouble_of_database(failed)
    return None
