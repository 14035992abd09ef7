"""The webhook endpoint as Nango and strangers see it (promises 1, 2 and 4), on both databases."""

import asyncio
import base64
import gc
import gzip
import hashlib
import json
import os
import re
import socket
import sqlite3
import threading
import time
import types
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from app.brokers.hints import Hints
from app.db.models import Event
from app.domain.signature import HEADER, sign
from app.ids import EVENT, parse
from app.web import bodies, group_commit
from app.web import webhooks as webhooks_module
from tests.integration.web.web_server import (
    KEY,
    OLD_KEY,
    WEBHOOK,
    WebServer,
    body_of,
    raw_request,
    read_answer,
    serve,
)
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer
from tests.waiting import PATIENCE, until

LIMIT = 64 * 1024
EVENT_ID = re.compile(r"evt_[0-9a-f]{32}")


@contextmanager
def database_of(kind: str, postgres: PostgresServer, folder: Path):
    if kind == "sqlite":
        yield f"sqlite:///{folder}/waylink.db"
        return
    postgres.start()
    url = postgres.create_database()
    try:
        yield url
    finally:
        postgres.start()
        postgres.drop_database(url)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def web(request, postgres, valkey, tmp_path_factory):
    """One server for all tests that leave it as it is; its patience is short."""
    folder = tmp_path_factory.mktemp("web")
    valkey.start()
    keys = folder / "keys"
    keys.write_text("file-key\n")
    config = f"""
[environments.other]
signing_keys_file = "{keys}"
[environments.private]
signing_keys_file = "{keys}"
payloads = "none"
"""
    with (
        database_of(request.param, postgres, folder) as url,
        serve(
            database_url=url,
            broker_url=valkey.url(0),
            folder=folder,
            config=config,
            WAYLINK_BODY_LIMIT_BYTES=str(LIMIT),
        ) as server,
    ):
        server.webhooks.slow_refusal_seconds = 0.1
        yield server


@pytest.fixture
def own_web(postgres, valkey, tmp_path):
    """Starts servers of a test's own: `own_web("sqlite", …)`."""
    with ExitStack() as stack:

        def start(kind: str, *, broker_url: str | None = None, **variables: str) -> WebServer:
            valkey.start()
            url = stack.enter_context(database_of(kind, postgres, tmp_path))
            broker = broker_url or valkey.url(0)
            server = stack.enter_context(serve(database_url=url, broker_url=broker, folder=tmp_path, **variables))
            server.webhooks.slow_refusal_seconds = 0.1
            return server

        yield start
        postgres.start()


_numbers = count(1_000_000)


def fresh() -> bytes:
    """A body that was not posted before."""
    return body_of(next(_numbers))


def signed(body: bytes, *headers: str, key: str = KEY, path: str = WEBHOOK) -> bytes:
    """A whole signed request."""
    lines = ("content-type: application/json", f"content-length: {len(body)}", f"{HEADER}: {sign(body, key)}")
    return raw_request(body, *lines, *headers, path=path)


def assert_problem(answer: httpx.Response, status: int) -> None:
    """RFC 9457, and no credential in it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"].endswith(".")
    assert KEY not in answer.text


def test_a_stored_webhook_is_answered_202_with_its_event_id(web: WebServer) -> None:
    body = fresh()
    first, second = web.post(body), web.post(body)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.headers["content-type"] == "application/json"
    assert list(first.json()) == ["event_id", "duplicate"]
    assert EVENT_ID.fullmatch(first.json()["event_id"])
    assert (first.json()["duplicate"], second.json()["duplicate"]) == (False, True)
    assert first.json()["event_id"] == second.json()["event_id"]
    assert web.events()[body] == 1


@pytest.mark.parametrize("key", [KEY, OLD_KEY])
def test_every_live_key_is_good(web: WebServer, key: str) -> None:
    body = fresh()
    assert web.post(body, key=key).status_code == 202
    assert body in web.events()


def test_identical_bytes_to_two_environments_are_two_events(web: WebServer) -> None:
    body = fresh()
    first, second = web.post(body), web.post(body, path=f"{WEBHOOK}/other", key="file-key")
    assert first.status_code == second.status_code == 202
    assert first.json()["event_id"] != second.json()["event_id"]


def test_a_key_of_one_environment_is_worth_nothing_in_another(web: WebServer) -> None:
    assert web.post(fresh(), path=f"{WEBHOOK}/other").status_code == 401
    assert web.post(fresh(), key="file-key").status_code == 401


def test_an_event_has_the_number_of_the_key_that_verified_it(web: WebServer) -> None:
    for key, number in ((KEY, 1), (OLD_KEY, 2)):
        answer = web.post(fresh(), key=key)
        assert answer.status_code == 202
        with web.database.read() as session:
            assert session.get(Event, parse(EVENT, answer.json()["event_id"])).signing_key == number


def test_a_key_file_is_read_again_without_a_restart(web: WebServer, monkeypatch) -> None:
    monkeypatch.setattr("app.config.nango_environment._REREAD_AFTER", 0.0)
    file = web.settings.environments["other"].signing_keys.file
    path = f"{WEBHOOK}/other"
    try:
        assert web.post(fresh(), path=path, key="rotated").status_code == 401
        file.write_text("rotated, file-key\n")
        assert web.post(fresh(), path=path, key="rotated").status_code == 202
        assert web.post(fresh(), path=path, key="file-key").status_code == 202
        file.write_text("rotated\n")
        assert web.post(fresh(), path=path, key="file-key").status_code == 401
        for broken in (b"", b"\xff\xfe\x00broken"):
            file.write_bytes(broken)
            assert web.post(fresh(), path=path, key="rotated").status_code == 202, "the last good keys stay in force"
        file.unlink()
        assert web.post(fresh(), path=path, key="rotated").status_code == 202
    finally:
        file.write_text("file-key\n")
        assert web.post(fresh(), path=path, key="file-key").status_code == 202


BODY = body_of(1, note="for signatures")
GOOD = sign(BODY, KEY)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [f"{HEADER}: {sign(BODY, 'wrong')}"],
        [f"{HEADER}: "],
        [f"{HEADER}: {GOOD[:-1]}"],
        [f"{HEADER}: {GOOD}0"],
        [f"{HEADER}: {GOOD.upper()}"],
        [f"{HEADER}: sha256={GOOD}"],
        [f"{HEADER}: \xff\xfe\x80"],
        [f"{HEADER}: {'a' * 5000}"],
        [f"{HEADER}: {GOOD}, {GOOD}"],
        [f"{HEADER}: {GOOD}", f"{HEADER}: {GOOD}"],
        [f"{HEADER}: {GOOD}", f"{HEADER}: {'0' * 64}"],
        [f"{HEADER}: {'0' * 64}", f"{HEADER}: {GOOD}"],
        [f"x-nango-signature: {GOOD}"],
        ["x-nango-signature: " + hashlib.sha256(KEY.encode() + BODY).hexdigest()],
    ],
    ids=[
        "missing", "wrong key", "empty", "cut", "longer", "upper case", "with a prefix", "not ascii", "huge", "joined",
        "twice", "good then bad", "bad then good", "in the legacy header", "legacy",
    ],
)  # fmt: skip
def test_whatever_is_not_one_right_signature_is_401_and_not_stored(web: WebServer, headers: list[str]) -> None:
    status, answer = web.exchange(raw_request(BODY, f"content-length: {len(BODY)}", *headers))
    assert status == 401
    assert json.loads(answer)["status"] == 401
    assert BODY not in web.events()


def test_a_body_changed_on_the_way_is_401(web: WebServer) -> None:
    body = fresh()
    signature = sign(body, KEY)
    assert_problem(web.client.post(WEBHOOK, content=body + b" ", headers={HEADER: signature}), 401)


def test_a_refusal_says_what_to_do(web: WebServer) -> None:
    unsigned = web.client.post(WEBHOOK, content=b"{}")
    assert_problem(unsigned, 401)
    assert HEADER in unsigned.json()["detail"]
    assert "X-Nango-Signature" in unsigned.json()["detail"]
    wrong = web.post(b"{}", key="wrong")
    assert_problem(wrong, 401)
    assert "signing key" in wrong.json()["detail"]


@pytest.mark.parametrize("name", ["nowhere", "%00", "a%2Fb", "%ff", "DEFAULT", "default%20", "..%2f"])
def test_an_unknown_environment_is_404(web: WebServer, name: str) -> None:
    body = fresh()
    status, answer = web.exchange(signed(body, path=f"{WEBHOOK}/{name}"))
    assert status == 404
    assert json.loads(answer)["status"] == 404
    assert body not in web.events()


@pytest.mark.parametrize("path", [WEBHOOK, f"{WEBHOOK}/", f"{WEBHOOK}/default", f"{WEBHOOK}/default/"])
def test_a_slash_too_many_is_taken_and_never_redirected(web: WebServer, path: str) -> None:
    body = fresh()
    assert web.post(body, path=path).status_code == 202
    assert body in web.events()


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [WEBHOOK, f"{WEBHOOK}/default", f"{WEBHOOK}/nowhere"])
def test_other_methods_are_405_and_say_which_is_right(web: WebServer, method: str, path: str) -> None:
    answer = web.client.request(method, path)
    assert_problem(answer, 405)
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/nowhere", "/webhooks", "/webhooks/nango/default/more", "/static/nowhere.css", "/healthz/"]
)
def test_an_unknown_path_is_a_problem_document_and_no_redirect(web: WebServer, path: str) -> None:
    assert_problem(web.client.post(path) if "static" not in path else web.client.get(path), 404)


def test_a_wrong_method_elsewhere_says_which_are_right(web: WebServer) -> None:
    answer = web.client.post("/healthz")
    assert_problem(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def sized(length: int) -> bytes:
    padding = os.urandom(8).hex()
    return b'{"x":"' + padding.encode() + b"y" * (length - 8 - len(padding)) + b'"}'


def test_a_body_of_exactly_the_limit_is_stored(web: WebServer) -> None:
    body = sized(LIMIT)
    assert len(body) == LIMIT
    assert web.post(body).status_code == 202
    assert body in web.events()


def test_one_byte_more_is_413_by_its_declared_length_alone(web: WebServer) -> None:
    with web.connect() as raw:
        raw.sendall(signed(sized(LIMIT + 1))[: -(LIMIT + 1)])  # not a byte of the body
        status, answer = read_answer(raw)
    assert status == 413
    assert "WAYLINK_BODY_LIMIT_BYTES" in json.loads(answer)["detail"]


def chunked(body: bytes, size: int, *headers: str, key: str = KEY, path: str = WEBHOOK) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    lines = ("transfer-encoding: chunked", f"{HEADER}: {sign(body, key)}")
    return raw_request(encoded, *lines, *headers, path=path)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "chunked"])
def test_what_is_not_to_be_kept_of_a_forwarded_webhook_is_never_stored(web: WebServer, *, whole: bool) -> None:
    secret = os.urandom(8).hex()
    facts = {"from": "stripe", "type": "forward", "providerConfigKey": "i", "connectionId": secret}
    body = json.dumps({**facts, "payload": {"card": f"not for us {secret}"}}).encode()
    path = f"{WEBHOOK}/private"
    for duplicate in (b"false", b"true"):
        request = signed(body, key="file-key", path=path) if whole else chunked(body, 50, key="file-key", path=path)
        status, answer = web.exchange(request)
        assert (status, duplicate in answer) == (202, True), answer
    assert web.post(body).status_code == 202  # another environment keeps all of it
    stored = {body: count for body, count in web.events().items() if secret.encode() in body}
    assert stored == {json.dumps(facts, separators=(",", ":")).encode(): 1, body: 0}


def test_a_chunked_body_is_taken_up_to_the_limit_and_413_beyond(web: WebServer) -> None:
    body = sized(LIMIT)
    assert web.exchange(chunked(body, 1000))[0] == 202
    assert body in web.events()
    assert web.exchange(chunked(sized(LIMIT + 1), 1000))[0] == 413


def test_a_sender_that_pushes_its_whole_oversized_body_still_reads_the_413(web: WebServer) -> None:
    # A reset instead of the answer would be retried by Nango, and count against us again.
    for _ in range(5):
        assert_problem(web.post(sized(LIMIT * 100)), 413)


@pytest.mark.parametrize("length", ["-1", "abc", "99999999999999999999999999", "1, 2"])
def test_a_senseless_content_length_is_refused_and_never_a_fault(web: WebServer, length: str) -> None:
    status, _ = web.exchange(raw_request(b"{}", f"content-length: {length}", f"{HEADER}: {sign(b'{}', KEY)}"))
    assert 400 <= status < 500


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        b"\x00" * 2000,
        b"\xff\xfe\xc3\x28",
        b"not json",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b'{"type":"auth","tags":"\\u0000\\ud800"}',
        b'{"n":' + b"9" * 20_000 + b"}",
        b"[" * 30_000,
        b'{"a":1,"a":2}',
        b"\xef\xbb\xbf{}",
        gzip.compress(b"{}", mtime=0),
    ],
    ids=lambda body: f"{body[:12]!r} of {len(body)}",
)
def test_whatever_is_signed_is_stored_byte_for_byte(web: WebServer, body: bytes) -> None:
    assert web.post(body).status_code == 202
    assert body in web.events()


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "not/a;;=type"},
        {"content-encoding": "gzip"},
        {"expect": "100-continue"},
        {"x-forwarded-for": "not an address"},
        {"x-http-method-override": "DELETE"},
    ],
    ids=str,
)
def test_headers_do_not_change_what_is_stored(web: WebServer, headers: dict[str, str]) -> None:
    body = fresh()
    assert web.post(body, **headers).status_code == 202
    assert body in web.events()


def test_a_body_that_comes_too_slowly_is_503(web: WebServer, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "READ_SECONDS", 0.3)
    body = fresh()
    with web.connect() as raw:
        raw.sendall(signed(body)[:-1])
        status, answer = read_answer(raw)
    assert status == 503
    assert json.loads(answer)["title"] == "Too slow"
    assert body not in web.events()


def test_a_body_in_single_bytes_is_stored(web: WebServer) -> None:
    body = fresh()
    request = signed(body)
    with web.connect() as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(request[: -len(body)])
        for byte in body:
            raw.sendall(bytes([byte]))
        assert read_answer(raw)[0] == 202
    assert body in web.events()


def test_a_client_that_hangs_up_in_its_body_leaves_nothing_behind(web: WebServer) -> None:
    half, whole = fresh(), fresh()
    for hang_up in (lambda raw: raw.close(), lambda raw: raw.shutdown(socket.SHUT_WR)):
        with web.connect() as raw:
            raw.sendall(signed(half)[:-5])
            hang_up(raw)
    assert web.post(whole).status_code == 202
    assert half not in web.events()
    until("nothing is left behind", lambda: web.webhooks.bodies._unverified == web.store._bytes == 0)


def test_a_client_that_does_not_wait_for_the_answer_is_stored_all_the_same(web: WebServer) -> None:
    bodies = [fresh(), fresh()]
    with web.connect() as raw:
        raw.sendall(signed(bodies[0]))
        raw.shutdown(socket.SHUT_WR)
        status, _ = read_answer(raw)
        assert status in {0, 202}
    with web.connect() as raw:
        raw.sendall(signed(bodies[1]))
    until("both are stored", lambda: web.events().keys() >= set(bodies))


def test_several_requests_on_one_connection_are_answered_in_order(web: WebServer) -> None:
    with web.connect() as raw:
        raw.sendall(signed(fresh()) + signed(fresh(), key="wrong") + signed(fresh(), path=f"{WEBHOOK}/nowhere"))
        with raw.makefile("rb") as stream:
            answers = []
            while len(answers) < 3:
                line = stream.readline()
                assert line, answers
                answers += [int(number) for number in re.findall(rb"HTTP/1.1 (\d+) ", line)]
    assert answers == [202, 401, 404]


def test_five_hundred_idle_connections_and_half_requests_do_not_stop_the_next_webhook(web: WebServer) -> None:
    with ExitStack() as stack:
        for number in range(500):
            raw = stack.enter_context(web.connect())
            if number % 5 == 0:
                raw.sendall(signed(fresh())[: number // 5])  # stops somewhere in its headers
        assert web.post(fresh()).status_code == 202


def test_no_one_can_fill_the_memory_with_unsigned_bytes_or_have_others_refused(web: WebServer, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "MAX_UNVERIFIED_BYTES", 3 * LIMIT)
    monkeypatch.setattr(bodies, "READ_SECONDS", PATIENCE)
    body = sized(LIMIT)
    with ExitStack() as stack:
        stalled = [stack.enter_context(web.connect()) for _ in range(3)]
        for number, raw in enumerate(stalled, start=1):
            raw.sendall(signed(body)[:-1])
            arrived = number * (LIMIT - 1)
            until("it has arrived", lambda arrived=arrived: web.webhooks.bodies._unverified >= arrived)
        one_more = stack.enter_context(web.connect())
        one_more.sendall(signed(body)[:-1])
        assert read_answer(stalled[0])[0] == 503, "the client that has stood still for longest makes room"
        assert web.webhooks.bodies._unverified <= 3 * LIMIT
        one_more.sendall(signed(body)[-1:])
        assert read_answer(one_more)[0] == 202
        assert web.post(fresh()).status_code == 202, "a whole body takes no part in it"
        stalled[1].sendall(signed(body)[-1:])
        assert read_answer(stalled[1])[0] == 202, "no client was ended without need"
    until("bytes of clients that left are not counted", lambda: not web.webhooks.bodies._unverified)
    assert web.post(sized(LIMIT)).status_code == 202


def test_a_body_is_not_kept_while_its_refusal_waits(web: WebServer, monkeypatch) -> None:
    # Refusals wait for seconds and their number has no bound: bodies in their tracebacks would fill the memory.
    kept = []
    refuse = webhooks_module.WebhookEndpoint._refuse

    async def count_marked(self, *args):
        kept.append(sum(marker in text for text in _bytes_in_frames()))
        await refuse(self, *args)

    marker = os.urandom(8).hex().encode()

    def _bytes_in_frames() -> list[bytes]:
        frames = [object_ for object_ in gc.get_objects() if isinstance(object_, types.FrameType)]
        return [value for frame in frames for value in frame.f_locals.values() if type(value) is bytes]

    monkeypatch.setattr(webhooks_module.WebhookEndpoint, "_refuse", count_marked)
    assert web.post(b'{"x":"' + marker + b'"}', key="wrong").status_code == 401
    assert kept == [0]


def test_two_hundred_posts_of_a_hundred_bodies_are_a_hundred_events_with_right_counters(web: WebServer) -> None:
    bodies = [fresh() for _ in range(100)]
    times = [1 + (number % 3) for number in range(100)]  # 1, 2 or 3 times each: 199
    posts = [body for body, count in zip(bodies, times, strict=True) for _ in range(count)]
    gate = threading.Barrier(50)

    def post(share: list[bytes]) -> list[tuple[bytes, httpx.Response]]:
        gate.wait()
        return [(body, web.post(body)) for body in share]

    # Neighbours in `posts` are equal, so dealing them out makes equal bodies arrive at once.
    with ThreadPoolExecutor(50) as pool:
        answers = [pair for share in pool.map(post, [posts[start::50] for start in range(50)]) for pair in share]
    assert Counter(answer.status_code for _, answer in answers) == {202: len(posts)}
    stored = web.events()
    assert {body: stored[body] for body in bodies} == {
        body: count - 1 for body, count in zip(bodies, times, strict=True)
    }
    fresh_answers = [body for body, answer in answers if not answer.json()["duplicate"]]
    assert sorted(fresh_answers) == sorted(bodies), "each body is new exactly once"
    ids = {(body, answer.json()["event_id"]) for body, answer in answers}
    assert len(ids) == 100, "every post of a body is answered with the same event"


@pytest.fixture
def hanging_broker(monkeypatch) -> Iterator[None]:
    """A broker whose publishing does not end before the test does."""
    let_go, send = threading.Event(), Hints.of_events

    def wait(self, ids):
        try:
            send(self, ids)
        finally:
            let_go.wait(2 * PATIENCE)

    monkeypatch.setattr(Hints, "of_events", wait)
    yield
    let_go.set()


def test_with_the_broker_down_webhooks_are_stored_and_answered_at_once(own_web, hanging_broker) -> None:
    port = free_port()
    web = own_web("sqlite", broker_url=f"redis://127.0.0.1:{port}/0")
    assert web.post(body_of(1)).status_code == 202
    assert web.events() == {body_of(1): 0}


def test_with_the_broker_frozen_webhooks_are_stored_and_answered_at_once(own_web, hanging_broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        web = own_web("sqlite", broker_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        assert web.post(body_of(1)).status_code == 202
        assert web.events() == {body_of(1): 0}


def test_with_the_database_away_a_webhook_is_held_then_503_then_taken_again(own_web, postgres: PostgresServer) -> None:
    web = own_web("postgresql")
    assert web.post(body_of(1)).status_code == 202
    postgres.stop()
    web.store.hold_seconds = 1.5
    started = time.monotonic()
    refused = web.post(body_of(2))
    waited = time.monotonic() - started
    assert_problem(refused, 503)
    assert waited >= 1.5
    assert web.webhooks.record._refused == {("default", "database_away"): 1}, "not reported as overload"
    web.store.hold_seconds = PATIENCE
    with ThreadPoolExecutor(4) as pool:
        held = [pool.submit(web.post, body_of(number)) for number in (2, 3, 4, 4)]
        until("they are there", lambda: web.store._bytes == 4 * len(body_of(2)))
        assert not any(future.done() for future in held), "held, not refused"
        postgres.start()
        answers = [future.result(PATIENCE) for future in held]
    assert [answer.status_code for answer in answers] == [202] * 4
    assert web.events() == {body_of(1): 0, body_of(2): 0, body_of(3): 0, body_of(4): 1}
    assert web.store._bytes == 0


def test_a_database_that_neither_answers_nor_hangs_up_holds_no_webhook_longer(
    own_web, postgres: PostgresServer
) -> None:
    web = own_web("postgresql")
    assert web.post(body_of(1)).status_code == 202
    web.store.hold_seconds = 1.0
    blocker = web.database.engine.connect()
    try:
        blocker.exec_driver_sql("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(web.post, [body_of(number) for number in (2, 3, 4)]))
        assert [answer.status_code for answer in answers] == [503] * 3
        until("an answered client is not kept", lambda: not web.store._waiting)
    finally:
        blocker.rollback()
        blocker.close()
    web.store.hold_seconds = PATIENCE
    assert web.post(body_of(5)).status_code == 202


def test_a_write_lock_held_by_another_process_for_two_seconds_is_waited_for(own_web) -> None:
    web = own_web("sqlite")
    other = sqlite3.connect(web.database.engine.url.database, isolation_level=None, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(web.post, body_of(1))
            until("it is there", lambda: web.store._bytes)
            time.sleep(2.0)
            assert not answer.done()
            other.execute("ROLLBACK")
            assert answer.result(PATIENCE).status_code == 202
    finally:
        other.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_shutdown_answers_the_requests_that_wait(own_web, kind: str, monkeypatch) -> None:
    monkeypatch.setattr(group_commit, "STOP_SECONDS", PATIENCE)
    web = own_web(kind)
    if kind == "sqlite":
        blocker = sqlite3.connect(web.database.engine.url.database, isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
    else:
        connection = web.database.engine.connect()
        connection.exec_driver_sql("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
        blocker = connection
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(web.post, body_of(number)) for number in range(20)]
        until("they wait", lambda: web.store._bytes == sum(len(body_of(number)) for number in range(20)))
        web.server.should_exit = True
        until("it shuts down", lambda: not web.server.servers[0].is_serving())
        if kind == "sqlite":
            blocker.execute("ROLLBACK")
        else:
            blocker.rollback()
        answers = [future.result(PATIENCE) for future in waiting]
    blocker.close()
    assert [answer.status_code for answer in answers] == [202] * 20
    web.stop()
    assert web.events() == {body_of(number): 0 for number in range(20)}


def test_the_announcement_has_ids_and_nothing_of_the_body(own_web, valkey: ValkeyServer) -> None:
    web = own_web("sqlite")
    valkey.flush()
    # An id that the random ones in a message cannot contain by chance.
    body = body_of(1, connectionId="the-connection", tags={"end_user_email": "person@example.test"})
    event_id = web.post(body).json()["event_id"]
    client = valkey._client()
    try:
        messages = until("it is announced", lambda: client.lrange("waylink.events", 0, -1))
    finally:
        client.close()
    assert len(messages) == 1
    assert event_id.encode() in json.loads(messages[0])["body"].encode() or event_id in _decoded(messages[0])
    for secret in ("person@example.test", "end_user_email", "the-connection", KEY):
        assert secret not in messages[0].decode() + _decoded(messages[0])


def _decoded(message: bytes) -> str:
    return base64.b64decode(json.loads(message)["body"]).decode()


async def _chunks_then_silence(count: int, *, hangs_up: bool):
    for _ in range(count):
        yield {"type": "http.request", "body": b"x" * 1000, "more_body": True}
    if hangs_up:
        yield {"type": "http.disconnect"}
    await asyncio.Event().wait()


@pytest.mark.parametrize("hangs_up", [True, False])
def test_what_arrives_while_a_refusal_waits_is_taken_and_thrown_away(hangs_up: bool) -> None:
    async def wait() -> float:
        loop = asyncio.get_running_loop()
        arriving, begun = _chunks_then_silence(100, hangs_up=hangs_up), loop.time()
        taken.append(0)

        async def receive():
            taken[0] += 1
            return await anext(arriving)

        await webhooks_module._let_pass(receive, until=begun + (2 * PATIENCE if hangs_up else 0.3))
        return loop.time() - begun

    taken: list[int] = []
    waited = asyncio.run(asyncio.wait_for(wait(), PATIENCE))
    assert taken == [101] if hangs_up else waited >= 0.3
