"""Real processes over TCP while their database or broker, or the way to it, fails: each fault three times in a row.

Web runs in two processes on one port on uvloop, as in production, and in one more on asyncio's own loop. Whatever
happens, webhooks are stored again as soon as that is possible, nothing acknowledged is lost, `/readyz` says so
meanwhile, and workers and Beat go on with their work.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.domain.signature import HEADER, sign
from tests.acceptance.harness import Waylink, creation, installation, until
from tests.faults import FAULTS, Fault, Place
from tests.ports import free_port
from tests.proxy import Proxy, proxied
from tests.servers import PostgresServer, ValkeyServer

KEY = "a-signing-key"
AT_ONCE = 6  # webhooks, so that each web process has some
ASYNCIO_ONLY = "from uvicorn import config\nconfig.LOOP_FACTORIES['auto'] = config.LOOP_FACTORIES['asyncio']\n"
NOT_READY = {
    "unreachable",
    "read-only",
    "not storing",
    "locked",
    "disk full",
    "connection refused",
}  # words of the database on /readyz


Webhook = tuple[str, bytes]  # the web that it goes to, and its body


@dataclass
class Stack:
    """All processes of an installation, their database and broker behind proxies. `origins` are those of web."""

    waylink: Waylink
    place: Place
    broker: Proxy
    origins: list[str]
    sent: list[bytes] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4 * AT_ONCE))

    def post(self, group: str) -> list[tuple[Webhook, Future[int]]]:
        """Some webhooks to each web, each on a connection of its own, and their statuses once they are answered."""
        webhooks = [(origin, creation(number, group=group)) for origin in self.origins for number in range(AT_ONCE)]
        self.sent += [body for _, body in webhooks]
        return [(webhook, self._pool.submit(_post, *webhook)) for webhook in webhooks]

    def all_are_stored(self, posted: Sequence[tuple[Webhook, Future[int]]], *, refusable: bool = True) -> None:
        """Assert 202 for each webhook. One refused by a slow machine is sent again, as by Nango."""
        for webhook, answer in posted:
            status = answer.result()
            assert status == 202 or (refusable and status == 503 and _post(*webhook) == 202), status

    def readiness(self, origin: str) -> tuple[int, str]:
        """Status and the database's word. Asked on a new connection, whichever process takes it."""
        answer = httpx.get(f"{origin}/readyz", timeout=30, trust_env=False)
        return answer.status_code, answer.json()["database"]

    def is_ready(self) -> None:
        for origin in self.origins:
            until("it is ready", lambda origin=origin: self.readiness(origin) == (200, "ok"))

    def all_is_processed(self) -> None:
        """Nothing that was acknowledged is lost or doubled, and the workers have done all of it."""
        until("all is processed", lambda: self._states() == {"processed": len(self.sent)})
        stored = [bytes(body) for (body,) in self.waylink.sql("SELECT body FROM events WHERE origin = 'webhook'")]
        assert sorted(stored) == sorted(self.sent)

    def _states(self) -> dict[str, int]:
        counted = "SELECT state, count(*) FROM events WHERE origin = 'webhook' GROUP BY state"
        return {str(state): int(count) for state, count in self.waylink.sql(counted)}

    def close(self) -> None:
        self._pool.shutdown()

    def in_order(self) -> None:
        """Nothing of ours has ended or failed by a fault. Celery says itself how it lost its broker."""
        for process in self.waylink.processes:
            assert process.running(), process.output
            ours = [line for line in process.output.splitlines() if '"logger": "celery.' not in line]
            for sign_of_a_fault in ("Traceback", "a process died", "loop_died", "webhook_fault"):
                assert not [line for line in ours if sign_of_a_fault in line]


def _post(origin: str, body: bytes) -> int:
    headers = {"content-type": "application/json", HEADER: sign(body, KEY)}
    return httpx.post(
        f"{origin}/webhooks/nango", content=body, headers=headers, timeout=60, trust_env=False
    ).status_code


@pytest.fixture(scope="module")
def stack(postgres: PostgresServer, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    postgres.start()
    valkey.start()
    valkey.flush()
    url = postgres.create_database()
    with proxied(postgres.port) as way, proxied(valkey.port) as broker:
        place = Place(postgres, way, url)
        given = {
            "WAYLINK_NANGO_SIGNING_KEYS": KEY,
            "WAYLINK_DATABASE_URL": place.url,
            "WAYLINK_BROKER_URL": valkey.url(0).replace(f":{valkey.port}/", f":{broker.port}/"),
            "WAYLINK_TEAM_BROKER_URL": valkey.url(1),
        }
        with installation(**given) as waylink:
            assert waylink.run("migrate").returncode == 0
            origins = [
                _web(waylink, "--processes", "2"),
                _web(waylink, patched=tmp_path_factory.mktemp("patched")),
            ]
            workers = [waylink.spawn(*command.split()) for command in ("worker events", "worker io", "beat")]
            for worker in workers[:2]:
                worker.says(" ready.")
            stack = Stack(waylink, place, broker, origins)
            stack.is_ready()
            yield stack
            stack.close()
        postgres.start()
    postgres.drop_database(url)


def _web(waylink: Waylink, *options: str, patched: Path | None = None) -> str:
    """Starts one on a port of its own, on asyncio's loop where there is a folder for what makes uvicorn take it; its
    origin.
    """
    before, port = dict(waylink.env), free_port()
    waylink.env["WAYLINK_PORT"] = str(port)
    if patched is not None:
        (patched / "sitecustomize.py").write_text(ASYNCIO_ONLY)
        waylink.env["PYTHONPATH"] = str(patched)
    process = waylink.spawn("web", *options)
    waylink.env = before
    process.says("web_started")
    return f"http://127.0.0.1:{port}"


@contextmanager
def under(fault: Fault, place: Place) -> Iterator[None]:
    """It has begun, and ends whatever happens."""
    try:
        fault.begin(place)
        yield
    finally:
        fault.end(place)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_webhooks_are_stored_again_and_worked_on_after_each_fault_three_times_in_a_row(
    stack: Stack, fault: Fault
) -> None:
    for count in range(3):
        with under(fault, stack.place):
            during = stack.post(f"{fault.name}-{count}-during")
            if fault.lasts:
                for origin in stack.origins:
                    until("it is not ready", lambda origin=origin: stack.readiness(origin)[1] in NOT_READY)
        stack.all_are_stored(during)
        stack.is_ready()
        stack.all_are_stored(stack.post(f"{fault.name}-{count}-after"), refusable=False)
        stack.all_is_processed()
    stack.in_order()


@dataclass(frozen=True)
class BrokerFault:
    """`lasts`: no message passes until `resume`."""

    begin: Callable[[Proxy], None]
    lasts: bool = True


def refuse(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.reset()


BROKER_FAULTS = {
    "black hole": BrokerFault(Proxy.stop_passing),
    "forgotten connections": BrokerFault(Proxy.abandon, lasts=False),
    "reset": BrokerFault(Proxy.reset, lasts=False),
    "refused": BrokerFault(refuse),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BROKER_FAULTS)
def test_webhooks_are_stored_meanwhile_and_worked_on_after_each_fault_of_the_broker_three_times_in_a_row(
    stack: Stack, name: str
) -> None:
    """Messages are lost, so that the workers have to hear of most of these webhooks by Beat's ticks."""
    fault = BROKER_FAULTS[name]
    for count in range(3):
        try:
            fault.begin(stack.broker)
            stack.all_are_stored(stack.post(f"broker-{name}-{count}-during"), refusable=False)
            if fault.lasts:
                for origin in stack.origins:
                    until("it is not ready", lambda origin=origin: stack.readiness(origin) == (503, "ok"))
        finally:
            stack.broker.resume()
        stack.is_ready()
        stack.all_are_stored(stack.post(f"broker-{name}-{count}-after"), refusable=False)
        stack.all_is_processed()
    stack.in_order()
