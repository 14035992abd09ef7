"""Causes of failed connections, in words: never a class alone, nor a text that may hold a password."""

import re
import socket
import sqlite3
import ssl
from pathlib import Path

import amqp
import httpx
import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError as KombuError
from sqlalchemy.exc import OperationalError

import app.brokers
from app.outage_causes import of_broker, of_connection, of_database, trouble_of_database

ROOT = Path(app.brokers.__file__).parents[2]
PASSWORD = "hunter2"
URL = f"redis://:{PASSWORD}@redis.example:6379/0"
# A value's type is meant there, a fault of Waylink's own with its traceback in the log, or a word for programs.
TYPES_MEANT = {
    "app/nango/credentials.py", "app/domain/owner_queries.py", "app/domain/json_values.py", "app/domain/event.py",
    "app/domain/own_event.py", "app/services/delivery/http_transport.py", "app/services/delivery/celery_transport.py",
    "app/services/refreshing/refresh_results.py", "app/services/connections/operations.py", "app/outbound/network.py",
    "app/web/ingest_counters.py", "app/outage_causes.py", "app/config/nango_environment.py",
    "app/services/liveness/reporter.py", "app/services/bulk_runs/row_acts.py", "app/brokers/celery_broker.py",
}  # fmt: skip


def wrapped(inner: BaseException, *outer: type[Exception]) -> BaseException:
    """As drivers wrap each other's errors, each with a text that quotes the URL."""
    failed = inner
    for error in outer:
        try:
            raise error(f"{failed} at {URL}") from failed
        except error as raised:
            failed = raised
    return failed


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        (ConnectionRefusedError(111, URL), "the connection is refused"),
        (wrapped(ConnectionRefusedError(111, URL), redis.ConnectionError, KombuError), "the connection is refused"),
        (wrapped(ConnectionRefusedError(111, URL), httpx.ConnectError), "the connection is refused"),
        (wrapped(TimeoutError(URL), redis.TimeoutError, KombuError), "no answer in time"),
        (httpx.ReadTimeout(URL), "no answer in time"),
        (redis.AuthenticationError(f"invalid {URL}"), "the user or the password is refused"),
        (wrapped(amqp.AccessRefused(URL), KombuError), "the user or the password is refused"),
        (amqp.NotAllowed(URL), "there is no such virtual host, or the user lacks a permission for it"),
        (redis.exceptions.NoPermissionError(URL), "the user lacks a permission"),
        (redis.exceptions.ReadOnlyError(URL), "it takes no writes: it is a replica"),
        (wrapped(socket.gaierror(-2, "Name or service not known"), redis.ConnectionError),
         "its name does not resolve: Name or service not known"),
        (ConnectionResetError(104, URL), "the connection was closed"),
        (redis.ConnectionError("Connection closed by server."), "the connection was closed"),
        (redis.ResponseError("DB index is out of range"), "it has no database of that number"),
        (wrapped(OSError(113, URL), redis.ConnectionError), "no route to host"),
        (wrapped(ssl.SSLError(1, URL), redis.ConnectionError), "TLS failed: its cause is not told"),
        (RuntimeError(URL), "RuntimeError"),
    ],
)  # fmt: skip
def test_what_kept_a_connection_from_being_used_is_reported_in_words(failed: BaseException, words: str) -> None:
    assert of_connection(failed) == words


def untrusted(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, URL)
    error.verify_code, error.verify_message = code, "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("internal", "WAYLINK_BROKER_CA_FILE"),
        ("team", "WAYLINK_BROKER_CA_FILE"),
        ("crm/jobs", "WAYLINK_DESTINATION_CA_FILE"),
    ],
)
def test_the_setting_for_a_broker_of_an_unknown_authority_is_named(name: str, setting: str) -> None:
    said = of_broker(name, wrapped(untrusted(18), redis.ConnectionError))
    assert said == f"its certificate is not trusted: self-signed certificate ({setting} names authorities of your own)"
    assert setting not in of_broker(name, untrusted(62)), "a certificate of another name"


def test_of_a_database_the_first_line_of_its_driver_is_reported() -> None:
    said = psycopg.OperationalError('FATAL:  password authentication failed for user "waylink"\nDETAIL: of 7 rows')
    failed = OperationalError("SELECT secret", {"value": PASSWORD}, said)
    assert of_database(failed) == of_database(said) == 'FATAL:  password authentication failed for user "waylink"'
    assert of_database(TimeoutError()) == "no answer in time"


def test_a_chain_of_errors_that_bites_its_tail_ends() -> None:
    first, other = ValueError(), KeyError()
    first.__context__, other.__context__ = other, first
    assert of_connection(first) == "ValueError"


def test_no_message_or_log_line_has_a_class_in_place_of_a_cause() -> None:
    """Modules that mean a class's name stand in TYPES_MEANT."""
    modules = [*(ROOT / "app").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    naming = {
        str(module.relative_to(ROOT))
        for module in modules
        if re.search(r"type\([^()]*(\([^()]*\)[^()]*)*\)\.__name__", module.read_text())
    }
    assert naming <= TYPES_MEANT


def sqlite_error(code, text="x"):
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("failed", "name"),
    [
        (psycopg.errors.DiskFull(), "disk full"),
        (psycopg.errors.TooManyConnections(), "too many connections"),
        (psycopg.errors.ReadOnlySqlTransaction(), "read-only"),
        (psycopg.errors.LockNotAvailable(), "locked"),
        (psycopg.errors.InvalidPassword(), "login refused"),
        (psycopg.errors.UndefinedTable(), "not migrated"),
        (psycopg.errors.AdminShutdown(), "unreachable"),
        (psycopg.errors.CheckViolation(), "not storing"),
        (psycopg.OperationalError('connection failed: FATAL:  password authentication failed for user "x"'),
         "login refused"),
        (psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already"),
         "too many connections"),
        (psycopg.OperationalError("FATAL:  remaining connection slots are reserved"), "too many connections"),
        (psycopg.OperationalError('connection to server at "::1", port 1 failed: Connection refused'),
         "connection refused"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), "unreachable"),
        (sqlite_error(sqlite3.SQLITE_FULL), "disk full"),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), "locked"),
        (sqlite_error(sqlite3.SQLITE_READONLY), "read-only"),
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE), "disk fault"),
        (sqlite_error(sqlite3.SQLITE_ERROR, "no such table: events"), "not migrated"),
        (sqlite_error(sqlite3.SQLITE_ERROR, "near x: syntax error"), "not storing"),
        (TimeoutError(), "unreachable"),
    ],
)  # fmt: skip
def test_each_trouble_of_a_database_has_its_name(failed, name):
    assert trouble_of_database(failed) == name
    assert trouble_of_database(OperationalError("INSERT", {}, failed)) == name
