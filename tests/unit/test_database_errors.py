"""Database errors that pass are distinguished from those that a row causes, by the drivers' codes."""

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from app.db.errors import has_answered, is_away, is_conflict


@pytest.mark.parametrize(
    ("failed", "away"),
    [
        (psycopg.OperationalError("server closed the connection"), True),
        (psycopg.errors.AdminShutdown(), True),
        (psycopg.errors.DiskFull(), True),
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.ReadOnlySqlTransaction(), True),
        (psycopg.errors.ProgramLimitExceeded(), False),  # an OperationalError, but of a row
        (psycopg.errors.UntranslatableCharacter(), False),
        (psycopg.DataError("of the driver"), False),
        (sqlite3.ProgrammingError("type 'object' is not supported"), False),
        (TypeError("ours"), False),
    ],
)
def test_what_passes_is_distinguished_from_what_a_row_causes(failed: Exception, away: bool) -> None:
    assert is_away(failed) is away


@pytest.mark.parametrize(
    ("failed", "answered"),
    [
        (psycopg.OperationalError("server closed the connection"), False),
        (psycopg.errors.AdminShutdown(), False),
        (psycopg.errors.ReadOnlySqlTransaction(), False),
        (psycopg.errors.LockNotAvailable(), True),
        (psycopg.errors.DiskFull(), True),
        (sqlite3.OperationalError("database is locked"), False),
    ],
)
def test_a_server_that_goes_on_serving_is_distinguished_from_one_that_does_not(
    failed: Exception, answered: bool
) -> None:
    assert has_answered(failed) is answered


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        (psycopg.errors.DeadlockDetected(), True),
        (psycopg.errors.SerializationFailure(), True),
        (psycopg.errors.LockNotAvailable(), False),
        (sqlite3.OperationalError("database is locked"), False),
    ],
)
def test_a_transaction_that_was_ended_for_another_is_recognized_also_in_sqlalchemys_error(
    failed: Exception, again: bool
) -> None:
    assert is_conflict(OperationalError("UPDATE", {}, failed)) is again
