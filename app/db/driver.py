"""psycopg's connection, with a bound on how long an answer is waited for.

A server that stands still, and a middlebox that forgot a connection, close nothing: their kernel acknowledges whatever
is sent, so neither keep-alives nor `tcp_user_timeout` tell of them, and the server's own time-outs do not run.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import InvalidatePoolError

PING_SECONDS: Final = 5.0  # for a connection of the pool to show that it lives
BEYOND_SERVER: Final = 5.0  # how much longer than the server lets a statement run
LONGEST_SECONDS: Final = 3600.0  # where the server sets no limit
_LOOK_SECONDS: Final = 0.1  # psycopg's own, between two looks for signals
_LIMIT: Final = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"  # in milliseconds

RV = TypeVar("RV")


class BoundedConnection(psycopg.Connection[Any]):
    """Ends, with an OperationalError, when one answer takes longer than `patience` seconds. None: without a bound."""

    patience: float | None = PING_SECONDS
    fresh = True  # nothing has been asked of it

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_SECONDS, timeout: float | None = None) -> RV:
        """Every statement, commit and rollback ends up here."""
        if timeout is not None or self.patience is None:
            return super().wait(gen, interval, timeout)
        patience, began = self.patience, time.monotonic()
        try:
            return super().wait(gen, interval, patience)
        except psycopg.OperationalError as failed:
            if time.monotonic() - began < patience:
                raise
            self.close()  # an answer that came later would be taken for the next statement's
            raise psycopg.OperationalError(f"no answer within {patience:g} s") from failed


def bound(engine: Engine, *, seconds: float | None = None) -> None:
    """Make an engine's connections bounded: by `seconds`, or by the server's own limit and a little more."""

    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> BoundedConnection:
        return BoundedConnection.connect(*arguments, **options)

    def learn(driver: Any, _record: object) -> None:
        driver.patience = seconds if seconds is not None else _beyond_server(driver)

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", learn)


@contextmanager
def unbounded(connection: Connection) -> Iterator[None]:
    """Let statements take as long as they take, within the transaction that has begun. Nothing but the kernel's
    keep-alives shows then that a server is gone.
    """
    driver: Any = connection.connection.dbapi_connection
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    patience, driver.patience = driver.patience, None
    try:
        yield
    finally:
        driver.patience = patience


def ping_first(engine: Engine) -> None:
    """SQLAlchemy's `pool_pre_ping`, which waits as long as for any statement, with a patience of its own."""

    def ping(driver: Any, _record: object, _proxy: object) -> None:
        if driver.fresh:
            driver.fresh = False
            return
        patience, driver.patience = driver.patience, PING_SECONDS
        try:
            engine.dialect.do_ping(driver)
        except psycopg.Error as failed:
            raise InvalidatePoolError from failed
        finally:
            driver.patience = patience

    event.listen(engine, "checkout", ping)


def _beyond_server(driver: BoundedConnection) -> float:
    driver.autocommit = True
    row = driver.execute(_LIMIT).fetchone()
    driver.autocommit = False
    limit = int(row[0]) / 1000 if row else 0
    return limit + BEYOND_SERVER if limit else LONGEST_SECONDS
