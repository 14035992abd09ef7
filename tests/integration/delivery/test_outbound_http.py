"""Forms of HTTP answers, and reuse of a connection after them: `HttpConnection` against a bare socket."""

import asyncio
import ssl

import pytest
import trustme
import uvloop

from app.errors import Unreachable
from app.outbound import http_connection
from app.outbound.http_connection import HttpConnection, HungUp
from tests.integration.delivery.endpoint import serving
from tests.waiting import PATIENCE, soon

REQUEST = b"POST /in HTTP/1.1\r\nhost: team.example\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"


def exchange(*pieces, requests=1, hang_up=False):
    """The answers, as (status, excerpt, whether it may be asked again), to a peer that writes these bytes for each."""
    found = []

    async def peer(reader, writer):
        for number in range(requests):
            await reader.readexactly(len(REQUEST))
            for piece in pieces if number == 0 else [OK]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)  # so that each piece is read alone
        if hang_up:
            writer.close()
            return
        await reader.read()

    async def scenario():
        async with serving(peer) as port:
            _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, "127.0.0.1", port)
            for number in range(requests):
                response = await connection.ask(REQUEST, until=patience())
                await connection.finish(response, until=patience())
                sent = sum(map(len, pieces if number == 0 else [OK]))
                await soon("all has come", lambda: not connection.is_open or connection._received == sent)  # noqa: B023
                connection.rest()
                found.append((response.status, bytes(response.excerpt), connection.is_open))
            connection.abort()

    run(scenario())
    return found


def patience():
    return asyncio.get_running_loop().time() + PATIENCE


def run(scenario, runner=asyncio.run):
    runner(asyncio.wait_for(scenario, PATIENCE))


def each_byte(data):
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize(
    ("pieces", "status", "excerpt"),
    [
        ([OK], 200, b"fine"),
        (each_byte(OK), 200, b"fine"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b""),
        ([b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"], 304, b""),
        ([b"HTTP/1.1 500\r\ncontent-length: 0\r\n\r\n"], 500, b""),
        (
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nfi\r\n", b"2\r\nne\r\n0\r\n\r\n"],
            200,
            b"fine",
        ),
        (
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nx-sum: 1\r\n\r\n"],
            200,
            b"fine",
        ),
        ([b"HTTP/1.1 100 Continue\r\nretry-after: 9\r\n\r\n", OK], 200, b"fine"),
        ([b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK], 200, b"fine"),
        ([b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\nfine"], 200, b"fine"),
    ],
)
def test_an_answer_that_was_read_to_its_end_leaves_the_connection_for_the_next(pieces, status, excerpt):
    assert exchange(*pieces, requests=2) == [(status, excerpt, True), (200, b"fine", True)]


@pytest.mark.parametrize(
    ("pieces", "status", "excerpt"),
    [
        ([b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nfine"], 200, b"fine"),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nfine"], 200, b"fine"),
        ([OK + OK], 200, b"fine"),
        ([OK, b"HTTP/1.1 500 Later\r\n\r\n"], 200, b"fine"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nwhatever"], 101, b""),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfine\r\nnonsense\r\n"], 200, b"fine"),
    ],
)
def test_a_connection_that_cannot_be_trusted_any_more_is_not_asked_again(pieces, status, excerpt):
    assert exchange(*pieces) == [(status, excerpt, False)]


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"])
def test_a_body_may_end_with_the_connection(head):
    assert exchange(head + b"fi", b"ne", hang_up=True) == [(200, b"fine", False)]


def test_no_more_of_a_body_is_kept_than_an_excerpt():
    body = b"a" * 1000 + b"b" * 1000
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n"
    assert exchange(head + body[:900], body[900:]) == [(200, body[: http_connection.EXCERPT], True)]


def test_a_body_that_is_longer_than_one_wants_to_read_ends_the_connection():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"
    [(status, excerpt, again)] = exchange(head, *[b"z" * 16384] * 5)
    assert (status, len(excerpt), again) == (200, http_connection.EXCERPT, False)


@pytest.mark.parametrize("endless", [b"0\r\nx-sum: ", b"1;", b"0\r\n"])
def test_what_stands_around_a_body_is_read_no_further_either(endless):
    """A trailer, an extension of a chunk, trailers without number: they are no body, and may not have an end."""
    head, filler = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"y" * 4096

    async def peer(reader, writer):
        await reader.readexactly(len(REQUEST))
        writer.write(head + endless)
        while not writer.is_closing():
            writer.write(filler if not endless.endswith(b"\n") else b"x: " + filler + b"\r\n")
            await writer.drain()

    async def scenario():
        loop = asyncio.get_running_loop()
        async with serving(peer) as port:
            _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port)
            response = await connection.ask(REQUEST, until=patience())
            await connection.finish(response, until=patience())
            assert connection._received < 512 * 1024
            assert (response.status, connection.is_open) == (200, False)

    run(scenario())


@pytest.mark.parametrize(
    "pieces",
    [
        [b"220 mail.example ESMTP\r\n"],
        [b"\x00\x01\x02"],
        [b"HTTP/1.1 2OO OK\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nx"],
        [b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 16000 + b"\r\n"] * 5],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 3000],
    ],
)
def test_what_is_no_answer_is_reported_and_ends_the_connection(pieces):
    with pytest.raises(Unreachable, match="its answer is not HTTP"):
        exchange(*pieces)


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 200 OK\r\ncontent-le"], [b"HTTP/1.1 100 Continue\r\n\r\n"]])
def test_a_peer_that_hangs_up_before_the_head_has_ended_is_distinguished(pieces):
    with pytest.raises(HungUp):
        exchange(*pieces, hang_up=True)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def trusted(authority):
    """TLS of a server on 127.0.0.1, and of a client that trusts it."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


LARGE = b"POST /in HTTP/1.1\r\nhost: team.example\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 9_000_000


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("has_tls", [False, True])
def test_a_connection_answered_before_the_request_was_read_is_not_used_again(authority, runner, has_tls):
    """The next request would stand behind what is left of this one: read by the peer as it likes, or never."""
    server, client = trusted(authority) if has_tls else (None, None)

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async def scenario():
        loop = asyncio.get_running_loop()
        async with serving(refuse, tls=server) as port:
            _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port, ssl=client)
            response = await connection.ask(LARGE, until=patience())
            connection.rest()
            assert (response.status, response.ended, connection.is_open) == (413, True, False)

    run(scenario(), runner)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_a_peer_that_ends_without_reading_the_request_hung_up(runner):
    async def end(reader, writer):
        writer.transport.pause_reading()
        writer.write_eof()
        await asyncio.Event().wait()

    async def scenario():
        loop = asyncio.get_running_loop()
        async with serving(end) as port:
            _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port)
            with pytest.raises(HungUp):
                await connection.ask(LARGE, until=patience())

    run(scenario(), runner)


def test_a_peer_that_sends_first_is_distinguished():
    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async def scenario():
        loop = asyncio.get_running_loop()
        async with serving(greet) as port:
            _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port)
            await soon("it was heard", lambda: not connection.is_open)
            with pytest.raises(Unreachable, match="its answer is not HTTP"):
                await connection.ask(REQUEST, until=patience())

    run(scenario())


def test_headers_are_those_of_the_answer_itself_not_of_an_interim_one_or_of_trailers():
    found = {}

    async def peer(reader, writer):
        await reader.readexactly(len(REQUEST))
        writer.write(b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\nX-Two: 1\r\nX-Two: 2\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"1\r\nx\r\n0\r\nretry-after: 99\r\n\r\n")
        await reader.read()

    async def scenario():
        async with serving(peer) as port:
            _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, "127.0.0.1", port)
            response = await connection.ask(REQUEST, until=patience())
            await connection.finish(response, until=patience())
            found.update(response.headers)
            connection.abort()

    run(scenario())
    assert found == {b"x-two": b"2", b"transfer-encoding": b"chunked"}
