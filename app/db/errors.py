"""Kinds of database errors: what passes, what is a row's, and what to try again."""

import sqlite3
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

# Connection, read-only after a fail-over, rollback, resources, lock not available, intervention, I/O.
_POSTGRESQL_AWAY: Final = {"08", "25", "40", "53", "55", "57", "58"}  # classes of SQLSTATE
_POSTGRESQL_NOT_SERVING: Final = {"08", "25", "57"}
_DEADLOCK_OR_SERIALIZATION: Final = {"40P01", "40001"}
_SQLITE_AWAY: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}


def is_away(failed: Exception) -> bool:
    """Whether an error is the database's and will pass: trying again may help. Else it is a row's."""
    cause = _driver_error(failed)
    if isinstance(cause, psycopg.Error):
        if cause.sqlstate is None:
            return isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
        return cause.sqlstate[:2] in _POSTGRESQL_AWAY
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_AWAY
    return False


def has_answered(failed: Exception) -> bool:
    """Whether an error that may pass came from a server that goes on serving."""
    sqlstate = _sqlstate(failed)
    return sqlstate is not None and sqlstate[:2] not in _POSTGRESQL_NOT_SERVING


def is_conflict(failed: Exception) -> bool:
    """Whether the database ended this transaction in favour of another: a deadlock or a serialization failure.

    Tried again, it goes through.
    """
    return _sqlstate(failed) in _DEADLOCK_OR_SERIALIZATION


def _driver_error(failed: Exception) -> BaseException | None:
    """The driver's error in one of SQLAlchemy's; any other as it is."""
    return failed.orig if isinstance(failed, DBAPIError) else failed


def _sqlstate(failed: Exception) -> str | None:
    return getattr(_driver_error(failed), "sqlstate", None)
