"""The application's own database, queried by the operator's SELECTs: read-only, with a time-out, in its own pool."""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DataError
from sqlalchemy.pool import QueuePool

from app.db.engine import POSTGRES_ARGUMENTS
from app.domain.query_validation import bare, parameters

CONNECT_SECONDS: Final = 2
BEYOND_SERVER: Final = 1.0  # seconds of waiting beyond PostgreSQL's statement_timeout
DRIVERS: Final = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
_STEPS: Final = 1000  # of SQLite's virtual machine between two checks of the time


class ApplicationDatabase:
    """Runs one query at a time; threads may share it. Every transaction is read-only and rolled back."""

    def __init__(self, url: str, *, timeout: float, pool_size: int) -> None:
        self.timeout = timeout
        parsed = make_url(url)
        self._engine = (
            _sqlite(parsed, pool_size)
            if parsed.get_backend_name() == "sqlite"
            else _postgres(parsed, timeout, pool_size)
        )

    def ask(self, query: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
        """Up to two rows, since two are as ambiguous as more. A missing tag is NULL.

        A value that the database cannot compare (text in place of a number) gives no row. Raises SQLAlchemyError for
        every other error, the time-out included.
        """
        bound = {name: tags.get(name) for name in parameters(query)}
        # Wrapped, so that the operator's text cannot be two statements, and never returns a million rows.
        statement = text(f"SELECT * FROM (\n{bare(query)}\n) AS answered LIMIT 2")  # noqa: S608 - the operator's own
        with self._engine.connect() as connection, _within(connection, self.timeout):
            try:
                return [dict(row) for row in connection.execute(statement, bound).mappings()]
            except DataError:
                return []

    def columns(self, query: str) -> Sequence[str]:
        """The query's columns, found by running it with NULL for every tag. Raises SQLAlchemyError."""
        statement = text(f"SELECT * FROM (\n{bare(query)}\n) AS answered LIMIT 2")  # noqa: S608 - the operator's own
        with self._engine.connect() as connection, _within(connection, self.timeout):
            return list(connection.execute(statement, dict.fromkeys(parameters(query))).keys())

    def close(self) -> None:
        self._engine.dispose()


def _postgres(url: URL, timeout: float, pool_size: int) -> Engine:
    from app.db.bounded_connection import bound  # noqa: PLC0415 - loads psycopg, which SQLite does not need

    milliseconds = round(timeout * 1000)
    options = (
        f"-c default_transaction_read_only=on -c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        " -c idle_in_transaction_session_timeout=60s -c application_name=waylink"
    )
    configured = str(url.query.get("options", ""))
    engine = create_engine(
        url.set(drivername=DRIVERS["postgresql"]),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=False,  # a dead connection fails the query, which is retried anyway
        pool_recycle=300,
        hide_parameters=True,
        connect_args={
            **POSTGRES_ARGUMENTS,
            "connect_timeout": CONNECT_SECONDS,
            "prepare_threshold": None,  # a pooler in between may not support prepared statements
            "options": f"{configured} {options}".strip(),
        },
    )
    bound(engine, seconds=timeout + BEYOND_SERVER)
    return engine.execution_options(postgresql_readonly=True)


def _sqlite(url: URL, pool_size: int) -> Engine:
    def connect() -> sqlite3.Connection:
        # Opened read-only: a missing file is an error, and none can be changed.
        return sqlite3.connect(
            f"file:{quote(url.database or '')}?mode=ro", uri=True, timeout=1, check_same_thread=False
        )

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _query_only)
    return engine


def _query_only(connection: sqlite3.Connection, _record: object) -> None:
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA query_only=ON")


@contextmanager
def _within(connection: Connection, seconds: float) -> Iterator[None]:
    """Interrupt a query of SQLite after `seconds`. PostgreSQL and `driver` have limits of their own."""
    driver: Any = connection.connection.dbapi_connection
    if not isinstance(driver, sqlite3.Connection):
        yield
        return
    ends_at = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > ends_at, _STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
