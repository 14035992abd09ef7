"""HTTP to teams: signed, bounded in every way, and never to an address of our own network."""

import asyncio
import gzip
import socket
import ssl
import threading
from itertools import cycle

import pytest
import trustme
from standardwebhooks import Webhook

from app.domain.addresses import read_networks
from app.domain.standard_webhooks import write_secret
from app.errors import Unreachable
from app.outbound import http_connection, network, pool, sending
from app.outbound.sending import HttpSender, HttpTarget
from tests.integration.delivery.endpoint import DefinedNames, answer, endpoint, serving
from tests.ports import free_port
from tests.waiting import PATIENCE, soon

KEY, OLD_KEY = bytes(range(32)), bytes(range(50, 82))
LOOPBACK = read_networks("127.0.0.0/8")
BODY = b'{"id":"job_1"}'


def run(scenario):
    """A scenario ends, whatever an endpoint does."""
    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


class Sending:
    """A sender that may go to loopback, and may resolve `team.example`."""

    def __init__(self, *, allowed=LOOPBACK, tls=None, resolve=None):
        self.sender = HttpSender(allowed=allowed, tls=tls, resolve=resolve)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *failed):
        await self.sender.aclose()

    async def to(self, place, *, scheme="http", host="127.0.0.1", path="/in", timeout=PATIENCE, keys=(KEY,), body=BODY):
        port = place if isinstance(place, int) else place.port
        target = HttpTarget(f"{scheme}://{host}:{port}{path}", keys, timeout)
        return await self.sender.send(target, message_id="job_1", body=body)


def test_a_job_arrives_as_a_signed_post_that_the_official_library_verifies():
    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            came = await sending_.to(team, path="/in?tenant=7", keys=(KEY, OLD_KEY))
            assert (came.status, came.error, came.ours, came.excerpt) == (200, None, False, "thanks")
            assert came.latency_ms > 0
            [request] = team.requests
            assert (request.line, request.body) == ("POST /in?tenant=7 HTTP/1.1", BODY)
            assert request.headers["host"] == f"127.0.0.1:{team.port}"
            assert request.headers["content-type"] == "application/json"
            assert request.headers["webhook-id"] == "job_1"
            for key in (KEY, OLD_KEY):
                Webhook(write_secret(key)).verify(request.body, request.headers)

    run(scenario)


@pytest.mark.parametrize("status", [204, 301, 307, 400, 404, 410, 429, 500, 503])
def test_every_status_is_an_answer_and_no_redirect_is_followed(status):
    async def refuse(request, writer):
        return await answer(writer, status, b"", location="/elsewhere")

    async def scenario():
        async with endpoint(refuse) as team, Sending() as sending_:
            came = await sending_.to(team)
            assert (came.status, came.error) == (status, None)
            assert len(team.requests) == 1

    run(scenario)


def test_a_retry_after_is_read():
    async def busy(request, writer):
        return await answer(writer, 503, b"", Retry_After="120")

    async def scenario():
        async with endpoint(busy) as team, Sending() as sending_:
            assert (await sending_.to(team)).retry_after == "120"

    run(scenario)


# Connections are kept


def test_a_connection_is_used_again_and_several_at_once_have_one_each():
    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            for _ in range(3):
                await sending_.to(team)
            assert team.connections == 1
            await asyncio.gather(*(sending_.to(team) for _ in range(20)))
            assert 1 < team.connections <= 20
            before = team.connections
            await asyncio.gather(*(sending_.to(team) for _ in range(20)))
            assert team.connections == before

    run(scenario)


def test_a_kept_connection_that_the_peer_closed_meanwhile_is_not_used():
    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            await sending_.to(team)
            [[kept]] = sending_.sender._pool._idle.values()
            team.hang_up_all()
            await soon("it is known", lambda: not kept.connection.is_open)
            assert (await sending_.to(team)).status == 200
            assert (team.connections, len(team.requests)) == (2, 2)

    run(scenario)


def test_a_kept_connection_that_ends_just_when_it_is_used_costs_nothing():
    async def once(request, writer):
        """The second request on a connection is read, and the connection closed without an answer."""
        return len(team.requests) != 2 and await answer(writer, 200)

    async def scenario():
        nonlocal team
        async with endpoint(once) as team, Sending() as sending_:
            assert (await sending_.to(team)).status == 200
            assert (await sending_.to(team)).status == 200
            assert [request.connection for request in team.requests] == [1, 1, 2]
            assert {request.headers["webhook-id"] for request in team.requests} == {"job_1"}

    team = None
    run(scenario)


def test_idle_connections_are_closed_and_old_ones_replaced(monkeypatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.1)

    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            await sending_.to(team)
            idle = sending_.sender._pool._idle
            assert len(idle) == 1
            await soon("it is closed", lambda: not idle)
            monkeypatch.setattr(pool, "MAX_AGE", 0.05)
            monkeypatch.setattr(pool, "IDLE_SECONDS", 60)
            await sending_.to(team)
            await asyncio.sleep(0.1)
            await sending_.to(team)
            assert team.connections == 3

    run(scenario)


# Bad endpoints


def failing(act, **options):
    """The result of a delivery to an endpoint that acts so."""
    found = []

    async def scenario():
        async with endpoint(act) as team, Sending() as sending_:
            found.append(await sending_.to(team, **options))

    run(scenario)
    return found[0]


async def say_nothing(request, writer):
    await asyncio.Event().wait()


async def hang_up(request, writer):
    return False


async def reset(request, writer):
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    return False


async def speak_nonsense(request, writer):
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    return False


async def send_endless_head(request, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        writer.write(f"x-{number}: {'y' * 100}\r\n".encode())
        await writer.drain()


async def promise_and_wait(request, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
    await asyncio.Event().wait()


async def drip_head(request, writer):
    for byte in cycle(b"HTTP/1.1 200 OK\r\n"):
        writer.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def repeat_continue(request, writer):
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (say_nothing, "no answer within 0.5 s"),
        (drip_head, "no answer within 0.5 s"),
        (repeat_continue, "no answer within 0.5 s"),
        (hang_up, "hung up"),
        (reset, "hung up"),
        (speak_nonsense, "not HTTP"),
        (send_endless_head, "not HTTP"),
    ],
)
def test_each_kind_of_failure_is_distinguished_and_the_teams(act, error):
    came = failing(act, timeout=0.5 if "within" in error else PATIENCE)
    assert (came.status, came.ours, came.excerpt) == (None, False, None)
    assert error in came.error


def test_a_closed_port_is_distinguished():
    async def scenario():
        async with Sending() as sending_:
            came = await sending_.to(free_port())
            assert (came.ours, came.error) == (False, "no connection: Connection refused")

    run(scenario)


# Answers


def test_a_status_counts_though_its_body_never_ends(monkeypatch):
    monkeypatch.setattr(sending, "BODY_SECONDS", 0.2)
    came = failing(promise_and_wait)
    assert (came.status, came.error, came.excerpt) == (200, None, "half")


def test_an_endless_body_is_read_no_further_than_needed(monkeypatch):
    sent = 0

    async def flood(request, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"z" * 65536)
            await writer.drain()
            sent += 65536

    monkeypatch.setattr(sending, "BODY_SECONDS", PATIENCE)
    came = failing(flood)
    assert (came.status, came.excerpt) == (200, "z" * 1024)
    assert sent < 16 * 1024 * 1024


def test_an_excerpt_cannot_steer_a_terminal_or_break_a_row():
    async def nasty(request, writer):
        return await answer(writer, 200, b"\x1b[2J\x00\xff ok \xe2\x80\xae")

    assert failing(nasty).excerpt == "\\x1b[2J\\x00\ufffd ok \\u202e"


def test_nothing_is_unpacked():
    async def bomb(request, writer):
        return await answer(writer, 200, gzip.compress(bytes(1_000_000)), content_encoding="gzip")

    assert failing(bomb).excerpt == "(not shown: its encoding is gzip)"


# Addresses


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        (["127.0.0.1"], "refused (loopback)"),
        (["10.0.0.1", "fd00::1"], "refused (private, unique-local)"),
        (["169.254.169.254"], "refused (metadata)"),
        (["::ffff:127.0.0.1"], "refused (IPv4-mapped)"),
        (["64:ff9b::7f00:1"], "refused (NAT64)"),
    ],
)
def test_a_name_that_leads_into_our_network_is_not_connected_to(addresses, error):
    async def scenario():
        async with endpoint() as team, Sending(allowed=(), resolve=DefinedNames(team_example=[addresses])) as sending_:
            came = await sending_.to(team, host="team.example")
            assert (came.status, came.ours) == (None, True)
            assert error in came.error
            assert team.connections == 0

    run(scenario)


@pytest.mark.parametrize("host", ["localhost", "localhost.", "127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1"])
def test_no_way_of_writing_loopback_gets_past_the_systems_resolver(host):
    async def scenario():
        async with endpoint() as team, Sending(allowed=()) as sending_:
            came = await sending_.to(team, host=host)
            assert "refused (loopback)" in came.error or "does not resolve" in came.error
            assert team.connections == 0

    run(scenario)


def test_a_literal_address_is_refused_without_connecting():
    async def scenario():
        async with endpoint() as team, Sending(allowed=()) as sending_:
            assert (await sending_.to(team)).ours
            assert team.connections == 0

    run(scenario)


def test_a_name_that_changes_between_check_and_connection_changes_nothing(monkeypatch):
    """DNS rebinding: the first lookup gives a good address, a second would give loopback. There is no second lookup."""
    opened = []

    async def scenario():
        names = DefinedNames(team_example=[["8.8.8.8"], ["127.0.0.1"]])
        loop = asyncio.get_running_loop()

        async def record(factory, host, port, **options):
            opened.append(host)
            raise ConnectionRefusedError(111, "refused")

        monkeypatch.setattr(loop, "create_connection", record)
        async with endpoint() as team, Sending(allowed=(), resolve=names) as sending_:
            assert "Connection refused" in (await sending_.to(team, host="team.example")).error
            assert (opened, names.asked) == (["8.8.8.8"], ["team.example"])
            assert "refused (loopback)" in (await sending_.to(team, host="team.example")).error
            assert (opened, team.connections) == (["8.8.8.8"], 0)

    run(scenario)


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch):
    monkeypatch.setattr("app.outbound.network.CONNECT_SECONDS", 10.0)  # half of it is waited for

    async def scenario():
        names = DefinedNames(team_example=[["127.0.0.9", "127.0.0.1"]])
        async with endpoint() as team, Sending(resolve=names) as sending_:
            loop = asyncio.get_running_loop()
            connect = loop.create_connection

            async def hang(factory, host, port, **options):
                if host == "127.0.0.9":
                    await asyncio.Event().wait()
                return await connect(factory, host, port, **options)

            monkeypatch.setattr(loop, "create_connection", hang)
            assert (await sending_.to(team, host="team.example")).status == 200

    run(scenario)


def test_a_name_without_address_and_a_name_server_that_hangs_are_distinguished(monkeypatch):
    async def scenario():
        async with Sending(resolve=DefinedNames(empty_example=[[]])) as sending_:
            unknown = await sending_.to(443, host="nowhere.example")
            assert unknown.error == "the name does not resolve: Name or service not known"
            assert (await sending_.to(443, host="empty.example")).error == "the name has no address"

        async def hang(host, port):
            await asyncio.Event().wait()

        async with Sending(resolve=hang) as sending_:
            slow = await sending_.to(443, host="team.example", timeout=0.3)
            assert "within 0.3 s" in slow.error

    run(scenario)


def test_one_name_is_asked_for_once_however_many_wait(monkeypatch):
    asked, known = [], threading.Event()

    def resolve(host, port, **options):
        asked.append(host)
        known.wait(PATIENCE)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(network.socket, "getaddrinfo", resolve)

    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            impatient = asyncio.create_task(sending_.to(team, host="team.example", timeout=0.05))
            waiting = [asyncio.create_task(sending_.to(team, host="team.example")) for _ in range(10)]
            assert "within 0.05 s" in (await impatient).error
            known.set()
            came = await asyncio.gather(*waiting)
            assert {answer.status for answer in came} == {200}
            assert asked == ["team.example"]

    run(scenario)


# TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def server_side(authority, name):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority, tmp_path):
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return network.trusting(file)


def test_tls_goes_by_the_name_and_an_operators_authority_is_trusted(authority, trusted):
    async def scenario():
        names = DefinedNames(team_example=[["127.0.0.1"]])
        tls = server_side(authority, "team.example")
        async with endpoint(tls=tls) as team, Sending(tls=trusted, resolve=names) as sending_:
            for _ in range(2):
                came = await sending_.to(team, scheme="https", host="team.example")
                assert (came.status, came.error) == (200, None)
            assert team.connections == 1

    run(scenario)


def test_a_certificate_of_another_name_or_of_a_stranger_is_not_trusted(authority, trusted):
    async def scenario():
        names = DefinedNames(team_example=[["127.0.0.1"]])
        async with endpoint(tls=server_side(authority, "other.example")) as team:
            async with Sending(tls=trusted, resolve=names) as sending_:
                came = await sending_.to(team, scheme="https", host="team.example")
                assert "Hostname mismatch" in came.error
            async with Sending(resolve=names) as sending_:
                came = await sending_.to(team, scheme="https", host="team.example")
                assert "not trusted" in came.error
            assert team.requests == []

    run(scenario)


def test_a_server_without_tls_is_distinguished(trusted):
    async def greet(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()

    async def scenario():
        async with serving(greet) as port, Sending(tls=trusted) as sending_:
            came = await sending_.to(port, scheme="https")
            assert "TLS failed" in came.error

    run(scenario)


def test_a_handshake_that_hangs_ends_with_the_time_for_the_try():
    async def silent(reader, writer):
        await reader.read()

    async def scenario():
        async with serving(silent) as port, Sending() as sending_:
            came = await sending_.to(port, scheme="https", timeout=0.5)
            assert came.error == "no answer within 0.5 s"

    run(scenario)


# Reachability


def test_a_place_is_tried_without_a_request():
    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            await sending_.sender.reach(f"http://127.0.0.1:{team.port}/")
            await soon("it was there and has gone", lambda: team.tasks and team.tasks[0].done())
            assert (team.connections, team.requests) == (1, [])
            with pytest.raises(Unreachable, match="Connection refused"):
                await sending_.sender.reach(f"http://127.0.0.1:{free_port()}/")

    run(scenario)


def test_a_cancelled_send_leaves_no_connection_behind(monkeypatch):
    made = []
    monkeypatch.setattr(network, "HttpConnection", lambda: made.append(http_connection.HttpConnection()) or made[-1])

    async def scenario():
        async with endpoint(say_nothing) as team, Sending() as sending_:
            task = asyncio.create_task(sending_.to(team))
            await soon("it is there", lambda: team.requests)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sending_.sender._pool._idle == {}
            assert [connection.is_open for connection in made] == [False]

    run(scenario)


def test_nothing_leaves_unsigned():
    async def scenario():
        async with endpoint() as team, Sending() as sending_:
            came = await sending_.to(team, keys=())
            assert (came.ours, team.connections) == (True, 0)
            assert "no signing secret" in came.error

    run(scenario)


def test_the_signing_key_is_in_no_repr():
    target = HttpTarget("https://team.example/", (KEY,))
    assert "\\x1f" not in repr(target)
    assert KEY.hex() not in repr(target)
