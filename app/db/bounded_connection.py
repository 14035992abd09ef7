"""psycopg's connection with a bound on the wait for an answer.

A server that stands still, and a middlebox that forgot a connection, close nothing: their kernel acknowledges all data,
so neither keep-alives nor `tcp_user_timeout` detect them, and the server's own time-outs do not run.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import InvalidatePoolError

PING_SECONDS: Final = 5.0  # for the ping of a pooled connection
IDLE_SECONDS: Final = 1.0  # after which a pooled connection is pinged before its next use
BEYOND_SERVER: Final = 5.0  # beyond the server's limit of a statement
LONGEST_SECONDS: Final = 3600.0  # for a server without a limit
_SIGNAL_SECONDS: Final = 0.1  # psycopg's own interval of checking for signals
_LIMIT: Final = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"  # in milliseconds

RV = TypeVar("RV")


class BoundedConnection(psycopg.Connection[Any]):
    """Raises OperationalError when an answer takes longer than `patience` seconds. None: without a bound."""

    patience: float | None = PING_SECONDS
    last_used_at: float | None = None  # monotonic; None: without a statement so far

    def wait(self, gen: PQGen[RV], interval: float = _SIGNAL_SECONDS, timeout: float | None = None) -> RV:
        """Wait for an answer; psycopg calls it for every statement, commit and rollback."""
        if timeout is not None or self.patience is None:
            return super().wait(gen, interval, timeout)
        patience, began = self.patience, time.monotonic()
        try:
            return super().wait(gen, interval, patience)
        except psycopg.OperationalError as failed:
            if time.monotonic() - began < patience:
                raise
            self.close()  # a late answer would be taken for the next statement's
            raise psycopg.OperationalError(f"no answer within {patience:g} s") from failed


def bound(engine: Engine, *, seconds: float | None = None) -> None:
    """Bound an engine's connections by `seconds`, or by the server's own limit and BEYOND_SERVER."""

    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **options)

    def learn(driver: Any, _record: object) -> None:
        driver.patience = seconds if seconds is not None else _beyond_server(driver)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", learn)


@contextmanager
def unbounded(connection: Connection) -> Iterator[None]:
    """Lift the limits of statements within the transaction that has begun.

    Meanwhile only the kernel's keep-alives detect that a server is gone.
    """
    driver: Any = connection.connection.dbapi_connection
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    patience, driver.patience = driver.patience, None
    try:
        yield
    finally:
        driver.patience = patience


def ping_idle(engine: Engine) -> None:
    """Ping a pooled connection that was idle for IDLE_SECONDS, or that its server has closed, before it is used.

    Unlike SQLAlchemy's `pool_pre_ping`, which costs each transaction a round trip, and with a shorter wait than for
    other statements.
    """

    def ping(driver: Any, _record: object, _proxy: object) -> None:
        last_used_at = driver.last_used_at
        if last_used_at is None or (time.monotonic() - last_used_at < IDLE_SECONDS and not _has_input(driver)):
            return
        patience, driver.patience = driver.patience, PING_SECONDS
        try:
            engine.dialect.do_ping(driver)
        except psycopg.Error as failed:
            raise InvalidatePoolError from failed
        finally:
            driver.patience = patience

    def used(driver: Any, _record: object) -> None:
        if driver is not None:  # None: it was found dead
            driver.last_used_at = time.monotonic()

    event.listen(engine, "checkout", ping)
    event.listen(engine, "checkin", used)


def _has_input(driver: BoundedConnection) -> bool:
    """Whether the server has sent something unasked: the end of the connection, or its reason. No round trip."""
    waiting = select.poll()
    waiting.register(driver.pgconn.socket, select.POLLIN)
    return bool(waiting.poll(0))


def _beyond_server(driver: BoundedConnection) -> float:
    driver.autocommit = True
    row = driver.execute(_LIMIT).fetchone()
    driver.autocommit = False
    limit = int(row[0]) / 1000 if row else 0
    return limit + BEYOND_SERVER if limit else LONGEST_SECONDS
