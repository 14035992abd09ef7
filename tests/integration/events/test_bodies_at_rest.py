"""Storing bodies that may hold a credential, while other requests go on (promises 7 and 12)."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from app.domain.signature import HEADER, sign
from app.domain.stored_bodies import AT_ONCE
from app.web import bodies
from app.web import webhooks as webhooks_module
from app.web.large_bodies import LARGE
from tests.integration.web.web_server import KEY, WebServer, body_of, raw_request, serve
from tests.servers import PostgresServer, ValkeyServer

SECRET = "hunter2-x"
CONFIG = """
[environments.shape]
signing_keys_env = "SHAPE_KEYS"
payloads = "redacted"
"""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def web(request, postgres: PostgresServer, valkey: ValkeyServer, tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    postgres.start()
    valkey.start()
    url = f"sqlite:///{folder}/waylink.db" if request.param == "sqlite" else postgres.create_database()
    with serve(database_url=url, broker_url=valkey.url(0), folder=folder, config=CONFIG, SHAPE_KEYS="shape") as server:
        server.webhooks.slow_refusal_seconds = 0.1
        yield server
    if request.param != "sqlite":
        postgres.drop_database(url)


def failure(number: int, said: str, **members: object) -> bytes:
    """A failed refresh that quotes a password."""
    error = f"{said}: password={SECRET}"
    return body_of(number, success=False, operation="refresh", error=error, **members)


def request_of(body: bytes, *, parts: bool, key: str = KEY, path: str = "/webhooks/nango") -> bytes:
    lines = [f"{HEADER}: {sign(body, key)}"]
    if not parts:
        return raw_request(body, *lines, f"content-length: {len(body)}", path=path)
    half = len(body) // 2
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:])) + b"0\r\n\r\n"
    return raw_request(encoded, *lines, "transfer-encoding: chunked", path=path)


SIZES = {"small": 1, "for a thread": AT_ONCE * 2, "large": LARGE * 4}


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
@pytest.mark.parametrize("size", SIZES)
def test_no_credential_is_stored_whatever_the_size(web: WebServer, size: str, *, parts: bool) -> None:
    number = 100 + len(SIZES) * parts + list(SIZES).index(size)
    body = failure(number, "no " * (1 + SIZES[size] // 3))
    answers = [json.loads(web.exchange(request_of(body, parts=parts))[1]) for _ in range(2)]
    assert [answer["duplicate"] for answer in answers] == [False, True]  # known by the bytes that came
    stored = [event for event in web.events() if f'"c-{number}"'.encode() in event]
    assert len(stored) == 1
    assert SECRET.encode() not in stored[0]
    assert json.loads(stored[0])["error"].startswith("no")


@pytest.mark.parametrize("size", SIZES)
def test_of_a_forwarded_body_the_shape_is_stored_whatever_the_size(web: WebServer, size: str) -> None:
    payload = {"note": SECRET, "rows": ["x"] * (SIZES[size] // 4)}
    facts = {"from": "stripe", "type": "forward", "providerConfigKey": "i", "connectionId": f"shape-{size}"}
    body = json.dumps({**facts, "payload": payload}).encode()
    path = "/webhooks/nango/shape"
    assert web.exchange(request_of(body, parts=False, key="shape", path=path))[0] == 202
    [stored] = [event for event in web.events() if f"shape-{size}".encode() in event]
    assert SECRET.encode() not in stored
    kept = json.loads(stored)["payload"]
    assert kept == "[redacted]" if size == "large" else len(kept["rows"]) == len(payload["rows"])


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[str]]]:
    """Searches of bodies stop until the event is set; with the names of the threads that do it."""
    looking, go_on, names, lookup = threading.Event(), threading.Event(), [], webhooks_module._scrubbed

    def slow(*given: object) -> object:
        names.append(threading.current_thread().name)
        looking.set()
        assert go_on.wait(60)
        return lookup(*given)

    monkeypatch.setattr(webhooks_module, "_scrubbed", slow)
    try:
        yield looking, names
    finally:
        go_on.set()


@pytest.mark.parametrize("size", ["for a thread", "large"])
def test_others_do_not_wait_while_a_body_is_searched(web: WebServer, monkeypatch, size: str) -> None:
    body = failure(200 + list(SIZES).index(size), "no " * (1 + SIZES[size] // 3))
    with ThreadPoolExecutor(1) as sender:
        with held_up(monkeypatch) as (looking, names):
            waits = sender.submit(web.post, body)
            assert looking.wait(60)
            assert web.post(body_of(300 + len(size))).status_code == 202
            assert web.post(failure(310 + len(size), "no")).status_code == 202
            forwarded = json.dumps({"from": "x", "payload": ["x" * (LARGE - 200)], "type": "forward"})
            assert web.post(forwarded.replace(": ", ":").replace(", ", ",").encode()).status_code == 202
            assert web.client.get("/healthz").status_code == 200
            assert not waits.done()
        assert waits.result(60).status_code == 202
    assert len(names) == 1
    assert names[0].startswith("bodies")


def test_bodies_that_wait_to_be_searched_count_as_memory(web: WebServer, monkeypatch) -> None:
    body = failure(400, "no " * LARGE)
    monkeypatch.setattr(bodies, "MAX_UNVERIFIED_BYTES", 2 * len(body) - 1)
    with ThreadPoolExecutor(1) as sender, held_up(monkeypatch) as (looking, _):
        waits = sender.submit(web.post, body)
        assert looking.wait(60)
        assert web.post(failure(401, "no " * LARGE)).status_code == 503
        assert not waits.done()
    assert waits.result(60).status_code == 202
    assert web.post(failure(401, "no " * LARGE)).status_code == 202


def test_a_large_body_is_verified_before_it_is_searched(web: WebServer, monkeypatch) -> None:
    body = failure(500, "no " * LARGE)
    with held_up(monkeypatch) as (_, names):
        assert web.post(body, key="wrong").status_code == 401
        assert web.client.post("/webhooks/nango", content=body).status_code == 401
    assert names == []
    assert not [event for event in web.events() if b'"c-500"' in event]
