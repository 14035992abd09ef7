"""Any request gets a clear answer, or is stored and processed, and hurts no other client."""

import contextlib
import gzip
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from sqlalchemy import select, text, update

from app.clock import utc_now
from app.db.models import Event
from app.domain.confirming import UNASKED_LOOKUPS
from app.domain.signature import HEADER, sign
from app.web import bodies, server
from app.web import client_connection as server_module
from tests.integration.web.test_webhooks import chunked, database_of, fresh, signed, sized
from tests.integration.web.web_server import KEY, WebServer, body_of, raw_request, read_answer, serve
from tests.integration.world import World
from tests.waiting import PATIENCE, until

GOOD = 20
MIB = 1024 * 1024
LIMIT = 4 * MIB


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def web(request, postgres, valkey, tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("hostile")
    valkey.start()
    with (
        database_of(request.param, postgres, folder) as url,
        serve(database_url=url, broker_url=valkey.url(0), folder=folder) as server,
    ):
        server.webhooks.slow_refusal_seconds = 0.1
        yield server


@pytest.fixture(scope="module")
def world(web: WebServer) -> Iterator[World]:
    """The workers of this server's database."""
    opened = World(web.database, utc_now)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _empty(web: WebServer) -> None:
    with web.database.write() as session:
        for table in ("deliveries", "jobs", "decisions", "links", "refreshes", "events", "connections"):
            session.execute(text(f"DELETE FROM {table}"))


def burst(web: WebServer, hostile: bytes) -> tuple[int, bytes]:
    """Send it at one moment with good webhooks, which are all answered 202; its own answer."""
    requests = [hostile, *(signed(fresh()) for _ in range(GOOD))]
    gate = threading.Barrier(len(requests))

    def send(request: bytes) -> tuple[int, bytes]:
        with web.connect() as raw:
            gate.wait()
            try:
                raw.sendall(request)
                return read_answer(raw)
            except ConnectionError:
                return 0, b""

    with ThreadPoolExecutor(len(requests)) as pool:
        answer, *good = pool.map(send, requests)
    assert [status for status, _ in good] == [202] * GOOD
    return answer


def process_all(world: World) -> Counter[tuple[str, str]]:
    """Process all that was received, as often as one waits for its connection; how many of each state and type."""
    for _ in range(1 + UNASKED_LOOKUPS):
        with world.database.write() as session:
            session.execute(update(Event).where(Event.state == "received").values(next_at=Event.received_at))
        world.processor.process()
    with world.database.read() as session:
        return Counter(
            (event.state, event.type) for event in session.scalars(select(Event).where(Event.origin == "webhook"))
        )


def auth(**changes: object) -> bytes:
    """An auth webhook with these members, in ASCII, as JSON can say anything."""
    return json.dumps(json.loads(fresh()) | changes).encode()


def raw_auth(member: bytes) -> bytes:
    """An auth webhook with one more member as it stands; a later one wins over an earlier."""
    return fresh()[:-1] + b"," + member + b"}"


DEEP = 100_000
UNHANDLED, CREATED, FORWARD, SYNC = "nango.unhandled", "connection.created", "nango.forward", "nango.sync"
FORWARDED = b'{"from":"github","type":"forward","providerConfigKey":"github","payload":%b}'
BODIES = {
    "nothing": (b"", UNHANDLED),
    "null": (b"null", UNHANDLED),
    "true": (b"true", UNHANDLED),
    "a number": (b"3", UNHANDLED),
    "a text": (b'"text"', UNHANDLED),
    "a list": (b"[1,2]", UNHANDLED),
    "no JSON": (b"not json", UNHANDLED),
    "cut JSON": (fresh()[:-1], UNHANDLED),
    "two documents": (fresh() + fresh(), UNHANDLED),
    "a NUL": (b"\x00", UNHANDLED),
    "invalid UTF-8": (b"\xff\xfe\xc3\x28", UNHANDLED),
    "gzip": (gzip.compress(fresh(), mtime=0), UNHANDLED),
    "UTF-16": (fresh().decode().encode("utf-16"), UNHANDLED),
    "deep lists": (b"[" * DEEP + b"]" * DEEP, UNHANDLED),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, UNHANDLED),
    "deep and open": (b"[" * DEEP, UNHANDLED),
    "unknown type": (b'{"from":"nango","type":"tomorrow","connectionId":"c"}', UNHANDLED),
    "type is an object": (auth(type={"a": 1}), UNHANDLED),
    "number too large": (b'{"type":"tomorrow","n":1e400}', UNHANDLED),
    "number too long": (b'{"type":"tomorrow","n":' + b"9" * 20_000 + b"}", UNHANDLED),
    "not a number": (b'{"type":"tomorrow","n":NaN,"m":-Infinity}', UNHANDLED),
    "same key twice": (b'{"type":"auth","type":"tomorrow"}', UNHANDLED),
    "forward of depth": (FORWARDED % (b"[" * DEEP + b"]" * DEEP), None),
    "forward of some depth": (FORWARDED % (b"[" * 90 + b"]" * 90), FORWARD),
    "forward of more depth": (FORWARDED % (b"[" * 900 + b"]" * 900), UNHANDLED),
    "forward of a long number": (FORWARDED % (b"9" * 5_000), None),
    "forward of 300,000 digits": (FORWARDED % (b"9" * 300_000), None),
    "forward of a large number": (FORWARDED % b"1e400", None),
    "forward of NUL and surrogates": (FORWARDED % rb'{"\u0000":"\ud800","\udfff":"a\u0000b"}', FORWARD),
    "forward of 4 MiB": (FORWARDED % b'"%b"' % (b"x" * (LIMIT - len(FORWARDED))), FORWARD),
    "NUL in ids": (auth(connectionId="a\x00b", providerConfigKey="\x00"), CREATED),
    "surrogates in ids": (auth(connectionId="a\ud800b", provider="\udc00"), CREATED),
    "raw surrogates": (fresh().replace(b"c-", b"\xed\xa0\x80"), None),
    "NUL in tags": (auth(tags={"end_user_id": "a\x00", "\x00": "b", "\ud800": "\udc00"}), CREATED),
    "with a byte order mark": (b"\xef\xbb\xbf" + fresh(), None),
    "long number in auth": (raw_auth(b'"n":' + b"9" * 5_000), None),
    "large number in auth": (raw_auth(b'"n":1e400'), None),
    "deep member in auth": (raw_auth(b'"n":' + b"[" * DEEP + b"]" * DEEP), None),
    "deep tags": (raw_auth(b'"tags":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"), None),
    "id is a number": (auth(connectionId=7), None),
    "id is empty": (auth(connectionId=""), None),
    "id of a megabyte": (auth(connectionId=Random(1).randbytes(MIB // 2).hex()), None),
    "integration of a megabyte": (auth(providerConfigKey=Random(1).randbytes(MIB // 2).hex()), None),
    "ten thousand tags": (auth(tags={f"t{number}": "v" for number in range(10_000)}), CREATED),
    "user of a megabyte": (auth(tags={"end_user_id": Random(1).randbytes(MIB // 2).hex()}), CREATED),
    "organization of a megabyte": (auth(tags={"organization_id": Random(1).randbytes(MIB // 2).hex()}), CREATED),
    "tags are a list": (auth(tags=["a"]), None),
    "tags hold objects": (auth(tags={"end_user_id": {"a": 1}}), None),
    "error is a list": (auth(success=False, error=["a"]), None),
    "error of a megabyte": (auth(success=False, error={"type": "t" * MIB, "description": "\x00" * 1000}), None),
    "success is a text": (auth(success="yes"), None),
    "operation is a list": (auth(operation=[]), None),
}


# Of Nango's own, what may be a credential is not kept; nor are ids longer than Nango's, nor what cannot be read.
NOT_AS_IT_CAME = {
    "long number in auth", "deep member in auth", "deep tags", "id of a megabyte", "integration of a megabyte",
    "error of a megabyte",
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_signed_body_of_any_kind_is_stored_and_processed_with_all_its_neighbours(
    web: WebServer, world: World, name: str
) -> None:
    body, kind = BODIES[name]
    status, answer = burst(web, signed(body))
    assert status == 202, answer
    assert (body in web.events()) is (name not in NOT_AS_IT_CAME)
    settled = process_all(world)
    assert sum(settled.values()) == GOOD + 1
    assert {state for state, _ in settled} == {"processed"}, settled
    if kind is not None:
        expected = Counter({("processed", CREATED): GOOD}) + Counter({("processed", kind): 1})
        assert settled == expected


def test_one_byte_more_than_the_limit_is_413_and_its_neighbours_are_stored(web: WebServer, world: World) -> None:
    assert burst(web, signed(sized(LIMIT + 1)))[0] in {413, 0}  # 0: the answer was overtaken by the reset
    assert burst(web, chunked(sized(LIMIT + 1), 64 * 1024))[0] in {413, 0}
    assert process_all(world) == {("processed", CREATED): 2 * GOOD}


BODY = body_of(1, note="hostile")
SIGNED = f"{HEADER}: {sign(BODY, KEY)}"
LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"
ONE_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
REFUSED = {
    "no length": (raw_request(BODY, SIGNED), 400),
    "length too short": (raw_request(BODY, SIGNED, f"content-length: {len(BODY) - 1}"), 400),
    "length negative": (raw_request(BODY, SIGNED, "content-length: -1"), 400),
    "length in hex": (raw_request(BODY, SIGNED, "content-length: 0x10"), 400),
    "length with a sign": (raw_request(BODY, SIGNED, f"content-length: +{len(BODY)}"), 400),
    "length of a hundred digits": (raw_request(BODY, SIGNED, "content-length: " + "9" * 100), 400),
    "length beyond all": (raw_request(b"", SIGNED, f"content-length: {2**62}"), 413),
    "length twice": (raw_request(BODY, SIGNED, LENGTH, LENGTH), 400),
    "two lengths": (raw_request(BODY, SIGNED, LENGTH, "content-length: 1"), 400),
    "length and chunks": (raw_request(ONE_CHUNK, SIGNED, LENGTH, CHUNKED), 400),
    "chunks twice": (raw_request(ONE_CHUNK, SIGNED, CHUNKED + ", chunked"), 400),
    "chunks of another coding": (raw_request(ONE_CHUNK, SIGNED, "transfer-encoding: gzip"), 400),
    "no chunk size": (raw_request(b"zz\r\n" + BODY, SIGNED, CHUNKED), 400),
    "negative chunk size": (raw_request(b"-1\r\n" + BODY, SIGNED, CHUNKED), 400),
    "chunk size beyond all": (raw_request(b"f" * 17 + b"\r\n" + BODY, SIGNED, CHUNKED), 400),
    "chunk longer than said": (raw_request(b"1\r\n" + BODY, SIGNED, CHUNKED), 400),
    "header without a colon": (raw_request(BODY, SIGNED, LENGTH, "nonsense"), 400),
    "blank before the colon": (raw_request(BODY, SIGNED, "content-length : 5"), 400),
    "NUL in a header": (raw_request(BODY, SIGNED, LENGTH, "x: a\x00b"), 400),
    "NUL in the path": (raw_request(BODY, SIGNED, LENGTH, path="/webhooks/\x00"), 400),
    "path outside ASCII": (raw_request(BODY, SIGNED, LENGTH, path="/webhooks/\xff"), 400),
    "unknown method": (raw_request(BODY, SIGNED, LENGTH, method="BREW"), 400),
    "CONNECT": (raw_request(method="CONNECT", path="waylink.test:80"), 400),
    "huge header": (raw_request(BODY, SIGNED, LENGTH, "x: " + "y" * 10 * MIB), 431),
    "a million headers": (raw_request(BODY, SIGNED, LENGTH, *["x: y"] * 1_000_000), 431),
    "huge path": (raw_request(BODY, SIGNED, LENGTH, path="/" + "y" * MIB), 431),
    "huge chunk extension": (raw_request(b"1;" + b"x" * MIB, SIGNED, CHUNKED), 431),
    "huge trailer": (raw_request(b"1\r\nx\r\n0\r\nx: " + b"y" * MIB, SIGNED, CHUNKED), 431),
    # The parser takes the body for one of the other protocol. No proxy passes this header on.
    "another protocol wished": (signed(BODY, "connection: upgrade, http2-settings", "upgrade: h2c"), 401),
    "WebSocket wished": (signed(BODY, "connection: upgrade", "upgrade: websocket"), 401),
    "a second signature behind": (raw_request(ONE_CHUNK[:-2] + SIGNED.encode() + b"\r\n\r\n", SIGNED, CHUNKED), 401),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), 400),
    "binary": (Random(1).randbytes(4096).replace(b"\n", b"") + b"\r\n\r\n", 400),
}
RESET = {
    "huge header",
    "a million headers",
    "huge path",
    "huge chunk extension",
    "huge trailer",
    "no length",
}  # more was sent than is read: the answer may be lost


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_request_is_refused_and_its_neighbours_are_stored(web: WebServer, world: World, name: str) -> None:
    request, expected = REFUSED[name]
    status, _ = burst(web, request)
    assert status == expected or (status == 0 and name in RESET)
    assert BODY not in web.events()
    assert process_all(world) == {("processed", CREATED): GOOD}
    until("nothing is left of it", lambda: not web.webhooks.bodies._unverified)


TAKEN = {
    "HTTP/1.0": signed(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "whole address": signed(BODY, path="http://waylink.test/webhooks/nango"),
    "a query": signed(BODY, path="/webhooks/nango?a=b&a=%00"),
    "one chunk": raw_request(ONE_CHUNK, SIGNED, CHUNKED),
    "chunks of a byte": chunked(BODY, 1),
    "a trailer": raw_request(ONE_CHUNK[:-2] + b"x: y\r\n\r\n", SIGNED, CHUNKED),
    "a strange expectation": signed(BODY, "expect: 200-ok"),
    "a thousand headers": signed(BODY, *(f"x-{number}: {number}" for number in range(1_000))),
    "no content type": raw_request(BODY, SIGNED, LENGTH),
    "two content types": signed(BODY, "content-type: text/plain; charset=\xff"),
    "gzip that is none": signed(BODY, "content-encoding: gzip"),
    "new lines before it": b"\r\n\r\n" + signed(BODY),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_strange_request_that_is_whole_and_signed_is_stored(web: WebServer, world: World, name: str) -> None:
    status, answer = burst(web, TAKEN[name])
    assert status == 202
    assert json.loads(answer)["duplicate"] in {True, False}
    assert BODY in web.events()
    process_all(world)


def test_a_client_that_expects_100_continue_gets_it(web: WebServer) -> None:
    body = fresh()
    with web.connect() as raw:
        raw.sendall(signed(body, "expect: 100-continue")[: -len(body)])
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert read_answer(raw)[0] == 202


def test_a_client_that_closes_its_half_still_reads_its_answer(web: WebServer) -> None:
    for _ in range(20):
        with web.connect() as raw:
            raw.sendall(signed(fresh()))
            raw.shutdown(socket.SHUT_WR)
            assert read_answer(raw)[0] == 202
            assert raw.recv(1) == b"", "nothing can follow, so it is closed"


def test_a_body_that_trickles_is_503_in_the_end(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.5)
    body = sized(10_000)
    with web.connect() as raw:
        raw.sendall(signed(body)[: -len(body)])
        raw.settimeout(0.05)
        answer = b""
        for byte in body:
            raw.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                answer = raw.recv(1000)
                break
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert body not in web.events()


BEGUN = {
    "nothing": b"",
    "the first letter": b"P",
    "half a head": signed(fresh())[:60],
    "new lines": b"\r\n",
}


@pytest.mark.parametrize("name", BEGUN)
def test_a_client_that_does_not_finish_its_head_is_hung_up_on(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(server_module, "HEAD_SECONDS", 0.2)
    assert hung_up_on(web, BEGUN[name], drip=BEGUN[name][:1])


@pytest.mark.parametrize("rest", [b"", b"P", b"\r\n"])
def test_a_client_that_stays_after_its_answer_is_hung_up_on(
    web: WebServer, monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.2)
    assert hung_up_on(web, signed(fresh()), drip=rest)


def test_a_body_that_is_not_read_does_not_keep_its_connection(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "KEEP_ALIVE_SECONDS", 0.2)
    assert hung_up_on(web, raw_request(b"", "content-length: 100000", path="/healthz"), drip=b"x")


def hung_up_on(web: WebServer, first: bytes, *, drip: bytes) -> bool:
    """Send this, then a little again and again, and read until the server closes."""
    give_up = time.monotonic() + PATIENCE
    with web.connect() as raw:
        raw.settimeout(0.1)
        raw.sendall(first)
        while time.monotonic() < give_up:
            try:
                if not raw.recv(10_000):
                    return True
            except TimeoutError:
                try:
                    raw.sendall(drip)
                except ConnectionError:
                    return True
            except ConnectionError:
                return True
    return False


def test_a_client_that_never_reads_does_not_keep_its_connection(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    for bound in ("MAX_QUEUED", "MAX_QUEUED_BYTES"):  # so many answers that they fit into no buffer
        monkeypatch.setattr(server_module, bound, 10**12)
    with web.connect() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(0.1)
        request = raw_request(method="GET", path="/static/waylink.svg") * 100
        before, give_up = closed("stuck"), time.monotonic() + PATIENCE
        while closed("stuck") == before and time.monotonic() < give_up:
            with contextlib.suppress(TimeoutError, ConnectionError):
                raw.sendall(request)
        assert closed("stuck") > before


def test_a_flood_of_broken_requests_is_counted_and_not_logged_one_by_one(
    web: WebServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SAME_WARNING_SECONDS", PATIENCE)
    before = closed("malformed")
    for _ in range(50):
        assert web.exchange(b"nonsense\r\n\r\n")[0] == 400
    until("all are counted", lambda: closed("malformed") == before + 50)
    assert sum("Invalid HTTP request" in record.message for record in caplog.records) <= 1


def closed(cause: str) -> float:
    return server_module.CONNECTIONS_CLOSED.labels(cause)._value.get()
