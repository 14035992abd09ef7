"""Synchronous database access for web and workers: PostgreSQL, or SQLite for the embedded default."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

from app.db import unreadable

SQLITE_BUSY_SECONDS: Final = 10
STATEMENT_SECONDS: Final = 60.0
POSTGRES_OPTIONS: Final = (
    "-c synchronous_commit=on -c timezone=UTC -c datestyle=ISO -c lock_timeout=10s"
    " -c idle_in_transaction_session_timeout=60s"
)

# A dead server has to be detected while a webhook is held, not after the kernel's minutes.
POSTGRES_ARGUMENTS: Final = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

_NOT_DURABLE: Final = {"waylink_durable": False}
_READ_ONLY: Final = {"waylink_read_only": True, "postgresql_readonly": True}
_HERE: Final = {"", "localhost", "127.0.0.1", "::1"}


class Database:
    """Short units of work. `write` commits at the end of the block or rolls back on an error."""

    def __init__(self, engine: Engine, driver_arguments: dict[str, Any] | None = None) -> None:
        self.engine = engine
        self.driver_arguments = driver_arguments or {}  # libpq's, for connections without SQLAlchemy
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._unreadable = unreadable.of(engine.dialect)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Session]:
        """One transaction. On SQLite it takes the write lock at once: reading first and writing later fails.

        Not durable: the commit does not wait for the disk. A crash of the database's machine may undo it, whole, unless
        a durable one followed. For claims, and for results that would only be obtained once more.
        """
        try:
            with self._sessions.begin() as session:
                if not durable:
                    connection = session.connection(execution_options=_NOT_DURABLE)
                    if not self.is_sqlite:
                        # One more round trip, 0.2 ms. A pool of such connections would save it, and double their
                        # number: claims and results come in batches.
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield session
        finally:
            self._unreadable.name(self.engine)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view. PostgreSQL refuses changes, SQLite does not keep them."""
        try:
            # It ends with a commit on PostgreSQL: psycopg drops a connection's prepared statements at a rollback.
            with self._sessions() if self.is_sqlite else self._sessions.begin() as session:
                session.connection(execution_options=_READ_ONLY)
                yield session
        finally:
            self._unreadable.name(self.engine)

    @contextmanager
    def dry_run(self) -> Iterator[Session]:
        """A transaction that is rolled back, to find out what changes would come to."""
        try:
            with self._sessions() as session:
                if self.is_sqlite:
                    session.connection(execution_options=_READ_ONLY)  # without the write lock
                yield session
        finally:
            self._unreadable.name(self.engine)

    def close(self) -> None:
        """Close all connections; one that a thread still uses is closed when it is given back."""
        event.listen(self.engine, "checkin", _close_returned)
        self.engine.dispose()


def connect(url: str, *, pool_size: int = 5, statement_seconds: float = STATEMENT_SECONDS) -> Database:
    """Open a database by SQLAlchemy URL. Nothing is connected until first use.

    statement_seconds: PostgreSQL's limit of a statement, unless the URL has one. The wait for its answer is a little
    longer (`driver`).
    """
    parsed = make_url(url)
    common: dict[str, Any] = {
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "hide_parameters": True,  # an error's text is logged, and stored with its event
    }
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": SQLITE_BUSY_SECONDS}, pool_size=pool_size, **common)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return Database(engine)
    from app.db.bounded_connection import bound, ping_idle  # noqa: PLC0415 - loads psycopg, which SQLite does not need

    arguments = _postgres_arguments(parsed, statement_seconds)
    engine = create_engine(parsed, pool_size=pool_size, max_overflow=pool_size, connect_args=arguments, **common)
    event.listen(engine, "connect", _prepare_postgres)
    event.listen(engine, "checkin", _leave_writing_to_the_server)
    bound(engine)
    ping_idle(engine)
    return Database(engine, {**engine.dialect.create_connect_args(parsed)[1], **arguments})


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for other databases, and for one in memory."""
    parsed = make_url(url)
    in_file = parsed.get_backend_name() == "sqlite" and parsed.database not in {None, "", ":memory:"}
    return Path(parsed.database or "") if in_file else None


def unverified(url: str) -> str | None:
    """Warning that a remote PostgreSQL server is not verified; None for a verified or local one."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return None
    host = parsed.host or str(parsed.query.get("host", ""))
    if parsed.query.get("sslmode") == "verify-full" or host in _HERE or host.startswith(("/", "@")):
        return None
    return "the server is not verified: sslmode=verify-full&sslrootcert=system in its URL does that"


def _postgres_arguments(url: URL, statement_seconds: float) -> dict[str, Any]:
    """Our connection arguments, overridden and extended by the operator's URL."""
    theirs = {name: value for name, value in url.query.items() if name in POSTGRES_ARGUMENTS}
    limit = f"-c statement_timeout={round(statement_seconds * 1000)}"
    options = f"{POSTGRES_OPTIONS} {limit} {url.query.get('options', '')}".strip()
    return {**POSTGRES_ARGUMENTS, **theirs, "options": options}


def _prepare_postgres(connection: Any, _record: object) -> None:
    from psycopg.types.string import TextLoader  # noqa: PLC0415 - with SQLite the driver is not loaded

    # As text, which `types` reads: the driver's own loaders refuse a whole row for one unreadable value.
    for kind in ("timestamptz", "jsonb"):
        connection.adapters.register_loader(kind, TextLoader)


def _close_returned(_connection: object, record: Any) -> None:
    record.invalidate()


def _leave_writing_to_the_server(connection: Any, _record: object) -> None:
    # After a read, SQLAlchemy has the next transaction say READ WRITE, whether or not the server is set to read-only.
    if connection is not None and connection.read_only is not None:
        connection.read_only = None


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not begin transactions by itself: `_begin_sqlite` does, with the right kind.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("waylink_read_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    durable = options.get("waylink_durable", True)
    if connection.info.get("durable", True) is not durable:
        # In WAL mode NORMAL leaves out the wait at each commit, and keeps their order. It can be set between two only.
        connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        connection.info["durable"] = durable
    connection.exec_driver_sql("BEGIN IMMEDIATE")
