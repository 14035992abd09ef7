"""Requests that a client sends without waiting for answers are taken up to a bound, and cost bounded memory."""

import gc
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.telemetry import CONNECTIONS_CLOSED
from app.web import client_connection as bounds
from tests.acceptance.harness import until
from tests.integration.web.test_webhooks import database_of, fresh, signed
from tests.integration.web.web_server import WebServer, raw_request, read_answer, serve

GET = raw_request(method="GET", path="/healthz")


@pytest.fixture(scope="module")
def web(valkey, postgres, tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("queued")
    valkey.start()
    with (
        database_of("sqlite", postgres, folder) as url,
        serve(database_url=url, broker_url=valkey.url(0), folder=folder) as server,
    ):
        yield server


def answers(raw: socket.socket) -> list[int]:
    """The statuses of all answers until the server hangs up."""
    raw.settimeout(30)
    with raw.makefile("rb") as stream:
        text = stream.read()
    return [int(part[:3]) for part in text.split(b"HTTP/1.1 ")[1:]]


def closed(cause: str) -> float:
    return CONNECTIONS_CLOSED.labels(cause)._value.get()


def held(web: WebServer) -> int:
    return web.server.server_state.queued_bytes


def test_a_few_requests_at_once_are_all_answered_and_the_connection_stays(web):
    bodies = [fresh() for _ in range(bounds.MAX_QUEUED)]
    with web.connect() as raw:
        for _ in range(2):
            raw.sendall(b"".join(signed(body) for body in bodies))
            with raw.makefile("rb") as stream:
                for _ in bodies:
                    assert stream.readline().split()[1] == b"202"
                    length = 0
                    while (line := stream.readline()) != b"\r\n":
                        length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
                    stream.read(length)
            bodies = [fresh() for _ in bodies]
    assert held(web) == 0


@pytest.mark.parametrize("request_", [GET, signed(fresh(), key="wrong")], ids=["GET", "POST"])
def test_of_thousands_at_once_a_bounded_number_is_answered_and_the_last_answer_says_so(web, request_):
    before, many = closed("queue_full"), 20_000
    with web.connect() as raw:
        raw.settimeout(30)
        with suppress(ConnectionError):  # hung up before it took everything
            raw.sendall(request_ * many)
        try:
            statuses = answers(raw)
        except ConnectionError:  # what was sent after the end makes the kernel reset
            statuses = []
    assert len(statuses) <= 1 + bounds.MAX_QUEUED
    assert closed("queue_full") == before + 1
    assert held(web) == 0
    gc.collect()
    assert sum(isinstance(object_, RequestResponseCycle) for object_ in gc.get_objects()) <= 100


def test_the_last_answer_ends_the_connection(web):
    with web.connect() as raw:
        raw.sendall(GET * (bounds.MAX_QUEUED + 5))
        assert answers(raw) == [200] * (bounds.MAX_QUEUED + 1)


def test_a_client_that_reads_nothing_of_its_last_answers_is_hung_up_on(web, monkeypatch):
    monkeypatch.setattr(bounds, "KEEP_ALIVE_SECONDS", 0)
    monkeypatch.setattr(bounds, "REQUEST_SECONDS", 0)
    with web.connect() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(raw_request(method="GET", path="/static/waylink.svg") * 2 * bounds.MAX_QUEUED)
        until("it is gone", lambda: len(web.server.server_state.connections) == 0)


def test_what_all_connections_queue_is_bounded(web, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_QUEUED_BYTES", 1024 * 1024)
    before, large = closed("queues_full"), b"x" * 60_000
    behind = raw_request(large, f"content-length: {len(large)}", path="/nowhere") * 3
    most = 0
    with ExitStack() as stack:
        other = stack.enter_context(closing(sqlite3.connect(web.database.engine.url.database, isolation_level=None)))
        other.execute("BEGIN IMMEDIATE")  # webhooks are held, and what follows on their connections waits
        opened = [stack.enter_context(web.connect()) for _ in range(30)]
        for raw in opened:
            with suppress(ConnectionError):
                raw.sendall(signed(fresh()) + behind)
        until("a queue was refused", lambda: closed("queues_full") > before)
        most = held(web)
        other.execute("ROLLBACK")
        first = [read_answer_or_nothing(raw) for raw in opened]
    assert most <= 1024 * 1024 + 256 * 1024  # and what one read brings
    assert set(first) == {202, 0}
    until("nothing is queued any more", lambda: held(web) == 0)


def read_answer_or_nothing(raw: socket.socket) -> int:
    try:
        return read_answer(raw)[0]
    except ConnectionError:
        return 0
