"""A webhook that comes as a whole is read from its connection; all else takes the usual way, with the same answers."""

import json
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import pytest

from app.domain.signature import HEADER, sign
from app.web.fast_path import WebhookConnection
from app.web.group_commit import GroupCommit
from app.web.webhooks import WebhookEndpoint
from tests.integration.web.test_webhooks import database_of, fresh, signed
from tests.integration.web.web_server import KEY, WebServer, raw_request, read_answer, serve
from tests.waiting import PATIENCE, until


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def web(request, postgres, valkey, tmp_path_factory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("direct")
    valkey.start()
    config = '[environments.our-other_1]\nsigning_keys_env = "OTHER_KEYS"\n'
    with (
        mock.patch.dict("os.environ", {"OTHER_KEYS": KEY}),
        database_of(request.param, postgres, folder) as url,
        serve(database_url=url, broker_url=valkey.url(0), folder=folder, config=config) as server,
    ):
        server.webhooks.slow_refusal_seconds = 0.1
        yield server


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that reached the ASGI endpoint."""
    seen: list[str] = []
    usual = WebhookEndpoint.__call__

    async def noted(self, scope, receive, send):
        seen.append(scope["path"])
        await usual(self, scope, receive, send)

    monkeypatch.setattr(WebhookEndpoint, "__call__", noted)
    return seen


@dataclass
class Heard:
    """Bytes and ends that the server has read from all its connections."""

    bytes: int = 0
    ends: int = 0


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    found = Heard()

    def after(name: str, note) -> None:
        usual = getattr(WebhookConnection, name)

        def noted(self, *args):
            result = usual(self, *args)
            note(*args)
            return result

        monkeypatch.setattr(WebhookConnection, name, noted)

    def note(name: str, count: int) -> None:
        setattr(found, name, getattr(found, name) + count)

    after("data_received", lambda data: note("bytes", len(data)))
    after("eof_received", lambda: note("ends", 1))
    return found


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Commits wait until this is set."""
    go = threading.Event()
    usual = GroupCommit._within

    async def waiting(self, lane, work):
        import asyncio  # noqa: PLC0415 - in the server's thread

        await asyncio.to_thread(go.wait, PATIENCE)
        return await usual(self, lane, work)

    monkeypatch.setattr(GroupCommit, "_within", waiting)
    yield go
    go.set()


def test_a_whole_webhook_is_stored_and_answered_without_a_request_of_the_application(web, requests) -> None:
    body = fresh()
    status, answer = web.exchange(signed(body))
    assert (status, json.loads(answer)["duplicate"]) == (202, False)
    again = json.loads(web.exchange(signed(body))[1])
    assert again == {"event_id": json.loads(answer)["event_id"], "duplicate": True}
    assert web.events()[body] == 1
    assert requests == []


def test_both_ways_answer_alike(web, requests) -> None:
    body = fresh()
    web.exchange(signed(body))
    answers = []
    for request in (signed(body), signed(body, path="/webhooks/nango?")):
        with web.connect() as raw:
            raw.sendall(request)
            head, _, rest = raw.recv(4096).partition(b"\r\n\r\n")
            answers.append((head.split(b"\r\ndate: ")[0], head.split(b"GMT\r\n")[1], rest))
    assert answers[0] == answers[1]
    assert len(requests) == 1


@pytest.mark.parametrize("place", ["first letter", "head", "end of the head", "body", "last byte"])
def test_a_webhook_in_two_parts_goes_the_usual_way_and_is_stored_once(web, requests, heard, place: str) -> None:
    body = fresh()
    request = signed(body)
    head = len(request) - len(body)
    cut = {"first letter": 1, "head": 30, "end of the head": head, "body": head + 9, "last byte": len(request) - 1}[
        place
    ]
    with web.connect() as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(request[:cut])
        until("it is read", lambda: heard.bytes == cut)
        raw.sendall(request[cut:])
        assert read_answer(raw)[0] == 202
    assert web.events()[body] == 0
    # What is cut before its head has ended is whole again with the second part.
    assert len(requests) == (cut >= head)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (signed(b"{}", path="/webhooks/nango/unknown"), 404),
        (signed(b"{}", path="/webhooks/nangoxdefault"), 404),
        (signed(b"{}", key="another"), 401),
        (raw_request(b"{}", "content-length: 2"), 401),
        (raw_request(b"{}", "content-length: 2", f"{HEADER}: x", f"{HEADER}: {sign(b'{}', KEY)}"), 401),
        (signed(b"x" * 1001), 413),
        (raw_request(method="GET"), 405),
    ],
    ids=["environment", "path", "key", "unsigned", "two signatures", "size", "method"],
)
def test_what_is_refused_is_refused_by_the_endpoint(web, monkeypatch, request_: bytes, status: int) -> None:
    monkeypatch.setattr(web.webhooks.bodies, "limit", 1000)
    assert web.exchange(request_)[0] == status


def test_environments_by_name_are_taken_too(web, requests) -> None:
    body = fresh()
    assert web.exchange(signed(body, path="/webhooks/nango/our-other_1"))[0] == 202
    assert requests == []


def test_what_follows_on_a_connection_is_answered_in_order(web, paused, heard) -> None:
    first, second = fresh(), fresh()
    with web.connect() as raw:
        ahead = signed(first) + raw_request(method="GET", path="/healthz") + signed(second)
        raw.sendall(ahead)
        until("all is read", lambda: heard.bytes == len(ahead))
        raw.sendall(raw_request(method="GET", path="/nowhere"))
        paused.set()
        answers = [_answer(raw) for _ in range(4)]
    assert [status for status, _ in answers] == [202, 200, 202, 404]
    assert {first, second} <= web.events().keys()


def test_a_client_that_closes_its_half_while_the_commit_runs_gets_its_answer_and_is_closed(web, paused, heard) -> None:
    body = fresh()
    with web.connect() as raw:
        raw.sendall(signed(body))
        raw.shutdown(socket.SHUT_WR)
        until("it is noticed", lambda: heard.ends)
        paused.set()
        assert read_answer(raw)[0] == 202
        assert raw.recv(1) == b""


def test_a_client_that_hangs_up_while_the_commit_runs_has_its_webhook_stored_and_hurts_no_other(
    web, paused, heard
) -> None:
    gone, stays = fresh(), fresh()
    with web.connect() as raw:
        raw.sendall(signed(gone))
        until("it is read", lambda: heard.bytes == len(signed(gone)))
    with web.connect() as raw:
        raw.sendall(signed(stays))
        paused.set()
        assert read_answer(raw)[0] == 202
    # Two commits overlap: the second may be answered before the first is through.
    until("both are stored", lambda: web.events().keys() >= {gone, stays})


def test_a_webhook_that_could_not_be_stored_is_503_by_the_endpoint_and_noted(web, requests, monkeypatch) -> None:
    async def failing(_self, _lane, work):
        work.close()
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(GroupCommit, "_within", failing)
        with web.connect() as raw:
            raw.sendall(signed(fresh()) + raw_request(method="GET", path="/healthz"))
            assert _answer(raw)[0] == 503
            assert raw.recv(1) == b"", "what came behind it has to be sent again"
    assert requests == ["/webhooks/nango"]
    assert web.webhooks.record._refused["default", "overload"] >= 1
    until("nothing is left of it", lambda: web.store._bytes == 0)


def test_a_fault_while_it_is_taken_is_the_endpoints_to_answer(web, requests, monkeypatch) -> None:
    def failing(_self, *_arguments):
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(WebhookEndpoint, "_delivery", failing)
        assert web.exchange(signed(fresh()))[0] == 503
    assert web.exchange(signed(fresh()))[0] == 202


def test_a_fault_while_one_is_answered_does_not_keep_the_others_waiting(web, paused, heard, monkeypatch) -> None:
    usual = web.webhooks.answers.of
    faults = iter([RuntimeError("no")])

    def failing(receipt, defaults, *, keep_alive):
        for fault in faults:
            raise fault
        return usual(receipt, defaults, keep_alive=keep_alive)

    monkeypatch.setattr(type(web.webhooks.answers), "of", lambda _self, *args, **more: failing(*args, **more))
    with web.connect() as first, web.connect() as other:
        sent = 0
        for each in (first, other):
            each.sendall(request := signed(fresh()))
            sent += len(request)
            until("it is read", lambda sent=sent: heard.bytes == sent)
        paused.set()
        answered, _, _ = select.select([first, other], [], [], PATIENCE)
        assert [read_answer(each)[0] for each in answered] == [202]


def _answer(raw: socket.socket) -> tuple[int, bytes]:
    """The next answer, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = raw.recv(1)
        assert byte, head
        head += byte
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += raw.recv(length - len(body))
    return int(head.split()[1]), body
