"""Promise 4: web reports for each webhook whether its answer was written whole to its connection."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from app.ids import EVENT, new_id, parse
from app.web.group_commit import GroupCommit
from tests.integration.web.test_webhooks import database_of, fresh, signed
from tests.integration.web.web_server import WebServer, read_answer, serve
from tests.waiting import PATIENCE, until

# Straight from the connection, and as a request of the application.
BOTH_WAYS = pytest.mark.parametrize(
    "options", [{}, {"path": "/webhooks/nango?"}, {"extra": "connection: close"}], ids=["direct", "asgi", "close"]
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def web(request, postgres, valkey, tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("answers")
    valkey.start()
    with (
        database_of(request.param, postgres, folder) as url,
        serve(database_url=url, broker_url=valkey.url(0), folder=folder) as server,
    ):
        server.webhooks.slow_refusal_seconds = 0.1
        yield server


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Commits wait until this is set."""
    go = threading.Event()
    usual = GroupCommit._within

    async def waiting(self, lane, work):
        await asyncio.to_thread(go.wait, PATIENCE)
        return await usual(self, lane, work)

    monkeypatch.setattr(GroupCommit, "_within", waiting)
    yield go
    go.set()


def request_of(body: bytes, *, path: str = "/webhooks/nango", extra: str = "") -> bytes:
    request = signed(body, path=path)
    return request.replace(b"\r\n\r\n", f"\r\n{extra}\r\n\r\n".encode(), 1) if extra else request


def delivery_of(web: WebServer, body: bytes) -> UUID:
    """The id of the event, which is that of its first delivery."""
    [found] = until("it is stored", lambda: _row(web, "SELECT id FROM events WHERE body = :body", body=body))
    return UUID(str(found))


def lost(web: WebServer, delivery: UUID) -> bool:
    """Wait for the web process's report of this delivery; whether its answer was lost."""
    process = _as(web, web.store.answers.process)

    def reported() -> bool:
        found = _row(web, "SELECT settled_before FROM web_processes WHERE id = :id", id=process)
        return found is not None and UUID(str(found[0])) > delivery

    until("it is reported", reported)
    return _row(web, "SELECT id FROM lost_answers WHERE id = :id", id=_as(web, delivery)) is not None


def _row(web: WebServer, statement: str, **values: object) -> Any:
    with web.database.read() as session:
        return session.execute(text(statement), values).first()


def _as(web: WebServer, id_: UUID) -> object:
    return id_.hex if web.database.is_sqlite else id_


@BOTH_WAYS
def test_an_answer_that_was_read_is_whole(web, options) -> None:
    body = fresh()
    status, answer = web.exchange(request_of(body, **options))
    assert status == 202
    assert not lost(web, parse(EVENT, json.loads(answer)["event_id"]))


def test_answers_on_a_connection_that_is_kept_are_whole_each(web) -> None:
    with web.connect() as raw:
        ids = []
        for options in ({}, {"path": "/webhooks/nango?"}, {}):
            raw.sendall(request_of(fresh(), **options))
            ids.append(parse(EVENT, json.loads(read_answer(raw)[1])["event_id"]))
    assert not any(lost(web, id_) for id_ in ids)


@BOTH_WAYS
@pytest.mark.parametrize("how", ["closes", "resets", "closes its half"])
def test_an_answer_to_a_client_that_left_before_it_is_lost(web, paused, options, how: str) -> None:
    body = fresh()
    with web.connect() as raw:
        raw.sendall(request_of(body, **options))
        until("it is being committed", lambda: any(lane.taken for lane in web.store._committers))
        if how == "closes its half":
            raw.shutdown(socket.SHUT_WR)
        else:
            if how == "resets":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        until(
            "the server has heard of it",
            lambda: all(
                connection._has_left or not connection.is_open for connection in web.server.server_state.connections
            ),
        )
        paused.set()
        assert lost(web, delivery_of(web, body))


@BOTH_WAYS
def test_an_answer_to_a_client_that_leaves_after_it_is_whole(web, options) -> None:
    body = fresh()
    with web.connect() as raw:
        raw.sendall(request_of(body, **options))
        assert read_answer(raw)[0] == 202
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert not lost(web, delivery_of(web, body))


def test_an_answer_on_a_connection_that_web_has_closed_before_is_lost(web, paused) -> None:
    body = fresh()
    with web.connect() as raw:
        raw.sendall(request_of(body, path="/webhooks/nango?"))
        until("it is being committed", lambda: any(lane.taken for lane in web.store._committers))
        [connection] = [connection for connection in web.server.server_state.connections if connection.is_open]
        connection.loop.call_soon_threadsafe(connection.transport.close)
        until("it is closed", lambda: not connection.is_open)
        paused.set()
        assert lost(web, delivery_of(web, body))


def test_an_answer_that_the_client_does_not_take_is_not_whole(web) -> None:
    """It reads nothing of its answers, for which there is little room."""
    bodies: list[bytes] = []
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.connect(("127.0.0.1", web.port))
        [connection] = until(
            "it is connected",
            lambda: [connection for connection in web.server.server_state.connections if connection.is_open],
        )
        connection._socket.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        while connection._socket.get_write_buffer_size() == 0:
            assert len(bodies) < 1000, "all of it found room"
            bodies.append(fresh())
            raw.sendall(request_of(bodies[-1]))
            until("it is answered", lambda: bodies[-1] in web.events() and connection.cycle.response_complete)
        first, last = delivery_of(web, bodies[0]), delivery_of(web, bodies[-1])
    assert (lost(web, first), lost(web, last)) == (False, True)


def test_what_was_given_up_and_perhaps_stored_was_not_answered(web, monkeypatch) -> None:
    async def failing(_self, _lane, work):
        await work
        raise RuntimeError("its end is not known")

    body = fresh()
    with monkeypatch.context() as patch:
        patch.setattr(GroupCommit, "_within", failing)
        assert web.exchange(request_of(body))[0] == 503
    assert lost(web, delivery_of(web, body))


def test_a_fault_while_it_is_answered_is_no_answer(web, monkeypatch) -> None:
    def failing(*_arguments, **_more):
        raise RuntimeError("no")

    body = fresh()
    with monkeypatch.context() as patch:
        patch.setattr(type(web.webhooks.answers), "of", failing)
        with web.connect() as raw:
            raw.sendall(request_of(body))
            assert lost(web, delivery_of(web, body))


def test_what_is_not_answered_yet_is_not_reported(web, paused) -> None:
    with web.connect() as raw:
        raw.sendall(request_of(fresh()))
        until("it is being committed", lambda: any(lane.taken for lane in web.store._committers))
        [waiting] = [held.delivery.event_id for lane in web.store._committers for held in lane.taken]
        web.store.answers.answered()
        report = web.store.answers.report(
            held.delivery.event_id for lane in web.store._committers for held in lane.taken
        )
        assert report.settled_before == waiting
        assert web.store.answer_report() is None
        web.store.answers.answered()
        assert web.store.answer_report().settled_before == waiting
        paused.set()
        assert read_answer(raw)[0] == 202
    assert not lost(web, waiting)


def test_a_process_that_is_idle_writes_nothing(web) -> None:
    web.exchange(request_of(fresh()))
    until(
        "it is recorded",
        lambda: (
            not web.store.answers._has_changes and web.webhooks.record._answer_report is web.webhooks.record._recorded
        ),
    )
    before = web.webhooks.record._recorded
    web.webhooks.record.report()
    web.webhooks.record.write()
    assert web.webhooks.record._recorded is before
    assert before.settled_before < new_id()
