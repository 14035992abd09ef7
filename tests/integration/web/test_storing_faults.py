"""Storing over TCP while the database or the way to it fails, on both event loops: no wait is without an end."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import uvloop
from sqlalchemy import make_url, text

from app.db import async_statements
from app.db.async_statements import LoopConnection, Statement, open_connection
from app.db.engine import Database, connect
from app.db.ingest import NewDelivery
from app.db.migrate import upgrade
from app.domain.signature import fingerprint
from app.errors import DatabaseUnavailable
from app.ids import new_id
from app.services.events import intake as writers
from app.services.events.intake import LoopWriter, Receipt, Writer, writer_for
from tests.faults import FAULTS, Fault, Place
from tests.ports import free_port
from tests.proxy import proxied
from tests.servers import PostgresServer

NOW = datetime(2026, 8, 21, 12, 0, tzinfo=UTC)
HANGS = 60.0  # seconds; nothing here waits so long, unless it waits for ever
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs on that loop, and fails instead of waiting for ever."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(asyncio.wait_for(work, HANGS))

    return run


@pytest.fixture(scope="module")
def template(postgres: PostgresServer) -> str:
    postgres.start()
    url = postgres.create_database()
    with closing(connect(url)) as database:
        upgrade(database)
    return str(make_url(url).database)


@pytest.fixture
def place(postgres: PostgresServer, template: str) -> Iterator[Place]:
    postgres.start()
    url = postgres.create_database(template)
    with proxied(postgres.port) as proxy:
        yield Place(postgres, proxy, url)
    postgres.start()
    postgres.drop_database(url)


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    with closing(connect(place.url)) as database:
        yield database


def delivery(name: str) -> NewDelivery:
    body = name.encode()
    return NewDelivery(new_id(), "default", fingerprint("default", body), body, NOW)


@contextmanager
def writer_of(database: Database) -> Iterator[LoopWriter]:
    writer = writer_for(database, timedelta(seconds=150), lambda: NOW)
    assert isinstance(writer, LoopWriter)
    yield writer


async def stored(writer: Writer, delivery: NewDelivery) -> Receipt:
    """Stored at last, as the group commit does it: tried again for as long as the database is away."""
    while True:
        try:
            [receipt] = await writer.store([delivery])
        except DatabaseUnavailable:
            await asyncio.sleep(0.05)
        else:
            return receipt


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_is_stored_while_the_database_fails_is_stored_once_it_is_back(
    run: Run, place: Place, database: Database, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "STUCK_SECONDS", 2.0)
    names = [f"{time} {count}" for count in range(3) for time in ("during", "after")]

    async def scenario() -> list[Receipt]:
        receipts = []
        with writer_of(database) as writer:
            await stored(writer, delivery("before"))
            for count in range(3):
                await asyncio.to_thread(fault.begin, place)
                during = asyncio.ensure_future(stored(writer, delivery(f"during {count}")))
                if fault.lasts:
                    assert not (await asyncio.wait([during], timeout=0.3))[0]
                await asyncio.to_thread(fault.end, place)
                receipts += [await during, await stored(writer, delivery(f"after {count}"))]
            await writer.close()
        return receipts

    receipts = run(scenario())
    assert not any(receipt.duplicate for receipt in receipts)
    with database.read() as session:
        bodies = [bytes(body).decode() for (body,) in session.execute(text("SELECT body FROM events"))]
    assert sorted(bodies) == sorted(["before", *names])


def test_a_connection_that_ends_while_nothing_is_stored_is_replaced_without_a_failure(
    run: Run, place: Place, database: Database
) -> None:
    async def scenario() -> None:
        with writer_of(database) as writer:
            await writer.store([delivery("before")])
            connection = writer._store.connection  # type: ignore[union-attr]
            await asyncio.to_thread(place.server.restart)
            while connection.lost is None:
                await asyncio.sleep(0.01)
            await writer.store([delivery("after")])
            await writer.close()

    run(scenario())


async def open_to(database: Database) -> LoopConnection:
    return await open_connection(database.driver_arguments)


async def answer_of(connection: LoopConnection, sql: str) -> list[list[bytes]]:
    return await Statement(connection, b"", sql.encode()).run()


@pytest.mark.parametrize("name", ["restart", "kill -9", "terminated sessions", "reset", "refused"])
def test_a_running_statement_ends_with_its_connection(run: Run, place: Place, database: Database, name: str) -> None:
    [fault] = [fault for fault in FAULTS if fault.name == name]

    async def scenario() -> None:
        connection = await open_to(database)
        asking = asyncio.ensure_future(answer_of(connection, "SELECT pg_sleep(3600)"))
        while not await asyncio.to_thread(place.sleeping):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(fault.begin, place)
        with pytest.raises(psycopg.Error):
            await asking
        assert connection.lost is not None

    try:
        run(scenario())
    finally:
        fault.end(place)


def test_a_statement_sent_before_the_loop_knows_of_the_end_fails_with_it(
    run: Run, place: Place, database: Database
) -> None:
    """The server's last message and the reset that the statement provokes come as one event, once on uvloop."""

    async def scenario() -> None:
        connection = await open_connection({**database.driver_arguments, "port": place.server.port})
        await answer_of(connection, "SELECT 1")
        place.server.restart()  # on the loop's own thread
        with pytest.raises(psycopg.Error):
            await answer_of(connection, "SELECT 1")
        assert connection.lost is not None

    run(scenario())


class Deaf:
    """A loop that never reports the socket: every event is lost."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def add_reader(self, *_: object) -> None: ...

    def add_writer(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


def test_an_answer_whose_event_is_lost_is_found_by_polling(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_statements, "POLL_SECONDS", 0.02)
    long = "x" * 30_000_000  # more than any socket takes at once, in both directions

    async def scenario() -> list[list[bytes]]:
        monkeypatch.setattr(asyncio, "get_running_loop", lambda of=asyncio.get_running_loop: Deaf(of()))
        connection = await open_to(database)
        monkeypatch.undo()
        monkeypatch.setattr(async_statements, "POLL_SECONDS", 0.02)
        answer = await answer_of(connection, f"SELECT '{long}'")
        connection.close()
        return answer

    assert run(scenario()) == [[long.encode()]]


def test_the_last_words_of_a_session_end_the_wait_though_nothing_follows(
    run: Run, place: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the end of the connection: the way to the server is cut off behind them."""
    monkeypatch.setattr(async_statements, "POLL_SECONDS", HANGS)

    async def scenario() -> None:
        connection = await open_to(database)
        asking = asyncio.ensure_future(answer_of(connection, "SELECT pg_sleep(3600)"))
        while not await asyncio.to_thread(place.sleeping):
            await asyncio.sleep(0.01)
        place.proxy.keep_open()
        await asyncio.to_thread(place.end_sessions)
        with pytest.raises(psycopg.errors.AdminShutdown):
            await asking
        assert connection.lost is not None

    run(scenario())


@pytest.mark.parametrize("state", ["waiting", "closed by libpq", "reset", "its number taken by another", "answered"])
def test_cutting_never_fails_and_ends_the_wait(run: Run, place: Place, database: Database, state: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with writer_of(database) as writer:
            writer.cut()  # before anything was done
            await writer.store([delivery("before")])
            connection = writer._store.connection  # type: ignore[union-attr]
            place.proxy.stop_passing()
            storing = asyncio.ensure_future(writer.store([delivery("stuck")]))
            await asyncio.sleep(0)
            others: list[asyncio.StreamWriter] = []
            if state != "waiting":
                loop.remove_reader(connection._socket)  # no event will report it
            if state == "closed by libpq":
                connection.libpq.finish()
            if state == "reset":
                place.proxy.reset()
            if state == "its number taken by another":
                number = connection.libpq.socket
                connection.libpq.finish()
                taken = socket.create_connection(("127.0.0.1", place.server.port))
                if taken.fileno() != number:
                    os.dup2(taken.fileno(), number)
                    taken.close()
                    taken = socket.socket(fileno=number)
                others.append((await asyncio.open_connection(sock=taken))[1])
            if state == "answered":
                place.proxy.resume()
                await asyncio.sleep(0.1)
            writer.cut()
            writer.cut()
            with pytest.raises(DatabaseUnavailable):
                await storing
            place.proxy.resume()
            for other in others:
                assert not other.is_closing()
                other.close()
            await writer.store([delivery("after")])
            await writer.close()
            writer.cut()

    run(scenario())


def test_giving_up_a_connection_that_is_being_made_leaves_none_open(run: Run, place: Place, database: Database) -> None:
    place.proxy.stop_passing()

    async def scenario() -> None:
        with writer_of(database) as writer:
            storing = asyncio.ensure_future(writer.store([delivery("early")]))
            while not place.proxy.connections():
                await asyncio.sleep(0.01)
            writer.cut()
            with pytest.raises(DatabaseUnavailable):
                await storing
            place.proxy.resume()
            while place.proxy.connections() or [thread for thread in threading.enumerate() if thread.name == "connect"]:
                await asyncio.sleep(0.01)
            await stored(writer, delivery("early"))
            await writer.close()

    run(scenario())


def test_giving_up_a_connection_that_has_just_been_made_closes_it(run: Run, place: Place, database: Database) -> None:
    async def scenario() -> None:
        with writer_of(database) as writer:
            storing = asyncio.ensure_future(writer.store([delivery("early")]))
            await asyncio.sleep(0)
            [making] = [thread for thread in threading.enumerate() if thread.name == "connect"]
            making.join(HANGS)  # the loop has not heard of it yet
            writer.cut()
            with pytest.raises(DatabaseUnavailable):
                await storing
            while place.proxy.connections():
                await asyncio.sleep(0.01)

    run(scenario())


def test_a_server_that_takes_connections_and_never_answers_is_given_up(run: Run, place: Place) -> None:
    place.proxy.stop_passing()

    async def scenario(database: Database) -> None:
        with writer_of(database) as writer, pytest.raises(DatabaseUnavailable):
            await writer.store([delivery("never")])

    with closing(connect(f"{place.url}?connect_timeout=2")) as database:
        run(scenario(database))


@pytest.mark.parametrize("where", ["nobody listens", "no such name"])
def test_where_there_is_no_server_the_database_is_away(run: Run, place: Place, where: str) -> None:
    url = make_url(place.direct_url)
    url = url.set(port=free_port()) if where == "nobody listens" else url.set(host="nowhere.invalid")

    async def scenario(database: Database) -> None:
        with writer_of(database) as writer, pytest.raises(DatabaseUnavailable) as refused:
            await writer.store([delivery("never")])
        assert not refused.value.answered

    with closing(connect(url.render_as_string(hide_password=False))) as database:
        run(scenario(database))
