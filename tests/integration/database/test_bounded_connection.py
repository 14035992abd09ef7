"""The synchronous pool over TCP: an answer that never comes is given up, and the pool goes on."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import cast

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from app.db import bounded_connection
from app.db.application_database import ApplicationDatabase
from app.db.bounded_connection import BEYOND_SERVER, LONGEST_SECONDS, BoundedConnection, unbounded
from app.db.engine import Database, connect
from app.db.errors import is_away
from tests.faults import FAULTS, Fault, Place
from tests.proxy import proxied
from tests.servers import PostgresServer
from tests.waiting import until


@pytest.fixture
def place(postgres: PostgresServer, postgres_url: str) -> Iterator[Place]:
    with proxied(postgres.port) as proxy:
        yield Place(postgres, proxy, postgres_url)
    postgres.start()


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    with closing(connect(place.url)) as database:
        yield database


def ask(database: Database) -> int:
    with database.read() as session:
        return int(session.scalar(text("SELECT 7")) or 0)


def write(database: Database) -> None:
    with database.write() as session:
        session.execute(text("CREATE TABLE IF NOT EXISTS things (id int)"))
        session.execute(text("INSERT INTO things VALUES (1)"))


def patience_of(database: Database) -> float:
    with database.engine.connect() as connection:
        return connection.connection.dbapi_connection.patience  # type: ignore[union-attr]


def ping_soon(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    monkeypatch.setattr(bounded_connection, "PING_SECONDS", 0.5)
    if fault.name == "forgotten connections":  # only a ping shows it, and that comes after idling
        monkeypatch.setattr(bounded_connection, "IDLE_SECONDS", 0.0)


def begin(fault: Fault, place: Place, database: Database) -> None:
    """Begin a fault. One that ends connections at once has ended the pool's when this returns."""
    with database.engine.connect() as connection:
        driver = cast("BoundedConnection", connection.connection.dbapi_connection)
    fault.begin(place)
    if not fault.lasts and fault.name != "forgotten connections":
        until("the end of the connection", lambda: bounded_connection._has_input(driver))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_pool_serves_again_after_each_fault_three_times_in_a_row(
    place: Place, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping_soon(monkeypatch, fault)
    with closing(connect(f"{place.url}?connect_timeout=2", statement_seconds=1)) as database:
        for _ in range(3):
            write(database)
            begin(fault, place, database)
            if fault.lasts:
                with pytest.raises(DBAPIError) as failed:
                    write(database)
                assert is_away(failed.value)
            fault.end(place)
            write(database)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.lasts], ids=lambda fault: fault.name)
def test_a_connection_of_the_pool_that_died_costs_its_next_user_nothing(
    place: Place, database: Database, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    ping_soon(monkeypatch, fault)
    assert ask(database) == 7
    begin(fault, place, database)
    assert ask(database) == 7


def test_a_connection_is_pinged_only_after_it_was_idle(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    pings, ping = [], database.engine.dialect.do_ping
    monkeypatch.setattr(database.engine.dialect, "do_ping", lambda driver: pings.append(1) or ping(driver))
    monkeypatch.setattr(bounded_connection, "IDLE_SECONDS", 3600.0)
    for _ in range(3):
        assert ask(database) == 7
    assert pings == []
    monkeypatch.setattr(bounded_connection, "IDLE_SECONDS", 0.0)
    assert ask(database) == 7
    assert pings == [1]


def test_reads_and_writes_in_turn_keep_their_prepared_statements(database: Database) -> None:
    write(database)
    for _ in range(8):  # psycopg prepares a statement when it comes for the sixth time
        assert ask(database) == 7
        write(database)
    prepared = text("SELECT count(*) FROM pg_prepared_statements WHERE statement IN ('SELECT 7', :insert)")
    with database.read() as session:
        assert session.scalar(prepared, {"insert": "INSERT INTO things VALUES (1)"}) == 2


def test_a_read_can_change_nothing_and_the_next_write_can(database: Database) -> None:
    write(database)
    with pytest.raises(DBAPIError, match="read-only transaction"), database.read() as session:
        session.execute(text("INSERT INTO things VALUES (2)"))
    write(database)


def test_a_connection_that_has_read_writes_nothing_where_its_server_is_set_to_read_only(
    database: Database, place: Place
) -> None:
    place.server.administer(f"ALTER DATABASE {place.name} SET default_transaction_read_only = on")
    assert ask(database) == 7
    with pytest.raises(DBAPIError, match="read-only transaction") as refused:
        write(database)
    assert is_away(refused.value)


def test_a_pooled_connection_has_less_time_to_show_that_it_lives_than_a_statement_has(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience, ping = [], database.engine.dialect.do_ping
    monkeypatch.setattr(bounded_connection, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(
        database.engine.dialect,
        "do_ping",
        lambda driver: patience.append(driver.patience) or ping(driver),
    )
    assert (ask(database), patience) == (7, []), "a new one has just shown it"
    assert (ask(database), patience) == (7, [bounded_connection.PING_SECONDS])
    assert patience_of(database) > bounded_connection.PING_SECONDS


def test_an_answer_that_never_comes_is_given_up_and_its_connection_with_it(place: Place) -> None:
    with closing(connect(place.url, statement_seconds=1)) as database:
        with database.engine.connect() as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.patience = 0.3  # type: ignore[attr-defined]
            place.proxy.stop_passing()
            with pytest.raises(OperationalError) as failed:
                connection.execute(text("SELECT 1"))
        assert "no answer within 0.3 s" in str(failed.value)
        assert is_away(failed.value)
        assert failed.value.connection_invalidated
        assert raw.closed  # type: ignore[attr-defined]
        place.proxy.resume()
        assert ask(database) == 7


@pytest.mark.parametrize(
    ("theirs", "patience"),
    [
        ("", 20 + BEYOND_SERVER),
        ("?options=-c%20statement_timeout%3D2min", 120 + BEYOND_SERVER),
        ("?options=-c%20statement_timeout%3D0", LONGEST_SECONDS),
    ],
)
def test_an_answer_is_waited_for_longer_than_the_server_lets_it_take(
    postgres_url: str, theirs: str, patience: float
) -> None:
    with closing(connect(postgres_url + theirs, statement_seconds=20)) as database:
        assert patience_of(database) == patience


def test_what_the_server_gives_up_in_time_is_its_own_error_and_costs_no_connection(postgres_url: str) -> None:
    with closing(connect(postgres_url, statement_seconds=0.2)) as database, database.engine.connect() as connection:
        with pytest.raises(OperationalError) as failed:
            connection.execute(text("SELECT pg_sleep(60)"))
        assert isinstance(failed.value.orig, psycopg.errors.QueryCanceled)
        assert not failed.value.connection_invalidated


def test_a_migration_takes_as_long_as_it_takes_and_its_connection_is_bounded_afterwards(postgres_url: str) -> None:
    with closing(connect(postgres_url, statement_seconds=0.2)) as database, database.engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.patience = 0.3  # type: ignore[attr-defined]
        with connection.begin(), unbounded(connection):
            connection.execute(text("SELECT pg_sleep(1)"))
        assert raw.patience == 0.3  # type: ignore[attr-defined]
        assert connection.scalar(text("SHOW statement_timeout")) == "200ms"


def test_the_application_s_database_is_given_up_behind_a_silent_proxy(place: Place) -> None:
    url = make_url(place.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(ApplicationDatabase(url, timeout=0.3, pool_size=1)) as application:
        asking = "SELECT 'usr_1' AS external_id"
        assert application.ask(asking, {}) == [{"external_id": "usr_1"}]
        place.proxy.abandon()
        began = time.monotonic()
        with pytest.raises(OperationalError):
            application.ask(asking, {})
        assert time.monotonic() - began < 60
        assert application.ask(asking, {}) == [{"external_id": "usr_1"}]
