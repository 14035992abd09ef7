"""Workers and Beats that die or stand still while tokens are renewed: no forced call comes twice, no plan is forgotten.

Two io workers and two Beats on PostgreSQL over TCP, against the sandbox over HTTP. A proxy before it is the witness of
the calls; at a random call, before or after its answer, it kills a worker, or a worker and a Beat, or freezes them.
"""

import os
import random
import re
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from app.db.engine import connect
from app.db.models import Connection, Refresh
from app.ids import new_id
from tests.acceptance.harness import Process, Sandbox, Waylink, creation, installation
from tests.ports import free_port
from tests.waiting import PATIENCE, until

API_KEY, KEY = "4d70f328-6b39-451e-b92f-21969323b448", "a-signing-key"
PLANS, STRIKES = 240, 3
FORCED = re.compile(r"^/connections/([^?]+)\?.*force_refresh=true")
READ = re.compile(r"^/connections/([^?]+)\?")


@dataclass
class Witness:
    """The calls as they arrived. They are passed on while it is open; one of them, before or after its answer, strikes.

    strike_after: so many calls from now on, and whether that one was answered.
    """

    calls: list[str] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    strike_after: tuple[int, bool] | None = None
    strike: Callable[[], None] = lambda: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrives(self, path: str) -> None:
        with self.lock:
            self.calls.append(path)
        assert self.is_open.wait(PATIENCE)
        self._passes(answered=False)

    def is_answered(self) -> None:
        self._passes(answered=True)

    def _passes(self, *, answered: bool) -> None:
        with self.lock:
            if self.strike_after is None or answered is not self.strike_after[1]:
                return
            left = self.strike_after[0] - 1
            self.strike_after = (left, answered) if left else None
            if not left:
                self.is_open.clear()
                self.strike()

    def forced(self) -> Counter[str]:
        return Counter(match[1] for path in list(self.calls) if (match := FORCED.match(path)))

    def asked(self) -> set[str]:
        return {match[1] for path in list(self.calls) if (match := READ.match(path))}


@contextmanager
def proxy(witness: Witness, upstream: str) -> Iterator[str]:
    client = httpx.Client(base_url=upstream, timeout=PATIENCE, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            witness.arrives(self.path)
            answer = client.get(self.path, headers={"authorization": self.headers["authorization"]})
            witness.is_answered()
            try:
                self.send_response(answer.status_code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)
            except OSError:
                self.close_connection = True  # its worker was killed

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server, client:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@dataclass
class Stack:
    """The processes; those that were killed or frozen are replaced by new ones."""

    waylink: Waylink
    witness: Witness
    workers: list[Process] = field(default_factory=list)
    beats: list[Process] = field(default_factory=list)
    frozen: list[Process] = field(default_factory=list)

    def start(self) -> None:
        """Have two of each."""
        for kind, command in ((self.workers, ("worker", "io")), (self.beats, ("beat",))):
            while len(kind) < 2:
                kind.append(self.waylink.spawn(*command))
        for worker in self.workers:
            worker.says(" ready.")

    def kill(self, chosen: random.Random) -> None:
        for process in self._taken(chosen):
            process.kill()

    def freeze(self, chosen: random.Random) -> None:
        for process in self._taken(chosen):
            os.killpg(process.pid, signal.SIGSTOP)
            self.frozen.append(process)

    def thaw(self) -> None:
        """Let the frozen ones go on, and end what they had begun."""
        for process in self.frozen:
            os.killpg(process.pid, signal.SIGCONT)
            process.send(signal.SIGTERM)
        for process in self.frozen:
            process.ends()

    def _taken(self, chosen: random.Random) -> list[Process]:
        """A worker, or a worker and a Beat, that do not belong to the stack any more."""
        kinds = (self.workers, self.beats) if chosen.random() < 0.3 else (self.workers,)
        return [kind.pop(chosen.randrange(len(kind))) for kind in kinds]

    def open_plans(self) -> list[Any]:
        return self.waylink.sql("SELECT next_at, attempts FROM refreshes WHERE finished_at IS NULL AND reason = 'test'")

    def outcomes(self) -> list[Any]:
        return self.waylink.sql(
            "SELECT id, outcome, attempts, forced, finished_at, expires_at FROM refreshes "
            "WHERE reason = 'test' ORDER BY id"
        )

    def lease_ends(self) -> None:
        """Let the leases of workers that were struck end: only their time is moved."""
        self.waylink.sql(
            "UPDATE refreshes SET next_at = now(), urgent_at = now() "
            "WHERE finished_at IS NULL AND reason = 'test' AND attempts > 0"
        )


@pytest.fixture
def stack(postgres_url: str, broker_url: str) -> Iterator[Stack]:
    witness, port = Witness(), free_port()
    variables = {
        "WAYLINK_DATABASE_URL": postgres_url,
        "WAYLINK_BROKER_URL": broker_url,
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_NANGO_SIGNING_KEYS": KEY,
        "WAYLINK_NANGO_REQUESTS_PER_MINUTE": "100000",  # the proxy passes no header on
    }
    with installation(**variables) as waylink, proxy(witness, f"http://127.0.0.1:{port}") as url:
        waylink.env["WAYLINK_NANGO_BASE_URL"] = url
        migrated = waylink.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        sandbox = waylink.spawn("sandbox", "--port", str(port), "--api-key", API_KEY, "--signing-key", KEY)
        sandbox.says("WAYLINK_NANGO_BASE_URL")
        account = Sandbox(base_url=f"http://127.0.0.1:{port}", api_key=API_KEY, signing_key=KEY)
        until("the sandbox answers", lambda: _answers(account))
        _plan(waylink, account)
        yield Stack(waylink, witness)


def _answers(sandbox: Sandbox) -> bool:
    try:
        return bool(sandbox.call("GET", "/sandbox/settings"))
    except httpx.TransportError:
        return False


def _plan(waylink: Waylink, sandbox: Sandbox) -> None:
    """Connections whose plans are due, every other one a forced one, as they are after a stop of Waylink's."""
    now = datetime.now(UTC)
    names = [str(uuid.uuid4()) for _ in range(PLANS)]
    bodies = [_named(creation(number), name) for number, name in enumerate(names)]
    sandbox.register(*bodies)
    with closing(connect(waylink.database_url)) as database, database.write() as session:
        for number, name in enumerate(names):
            ref = new_id()
            session.add(
                Connection(
                    id=ref, environment="default", integration="oauth2", connection_id=name, provider="local-oauth2",
                    auth_mode="OAUTH2", status="active", tags={}, tags_disagree=False, absences=0, created_at=now,
                    updated_at=now, observed_at=now,
                )
            )  # fmt: skip
            due = now - timedelta(minutes=number + 1)
            session.add(
                Refresh(
                    id=new_id(), connection_ref=ref, refresh_at=due, next_at=due, forced=number % 2 == 0, reason="test",
                    attempts=0, failures=0, created_at=due,
                    **({"deadline_at": now, "keeps": "token", "urgent_at": due} if number % 3 else {}),
                )
            )  # fmt: skip


def _named(body: bytes, name: str) -> bytes:
    return re.sub(rb'"connectionId":"[^"]+"', b'"connectionId":"' + name.encode() + b'"', body)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("strike", [Stack.kill, Stack.freeze])
def test_no_forced_call_comes_twice_and_no_plan_is_forgotten(
    stack: Stack, strike: Callable[[Stack, random.Random], None]
) -> None:
    chosen, witness = random.Random(15), stack.witness
    witness.strike = lambda: strike(stack, chosen)
    for number in range(STRIKES):
        stack.start()
        witness.strike_after = (chosen.randrange(1, 30), number % 2 == 0)
        witness.is_open.set()
        until(f"strike number {number + 1}", lambda: witness.strike_after is None, seconds=2 * PATIENCE)
    stack.start()
    witness.is_open.set()

    # Within the leases: what was claimed by those that are struck rests, and everything else is carried out.
    def only_leases_are_open() -> bool:
        plans = stack.open_plans()
        return all(plan.attempts > 0 for plan in plans)

    until("all that is due was carried out", only_leases_are_open, seconds=2 * PATIENCE)
    assert max(witness.forced().values()) == 1, "a forced call came twice"

    stack.lease_ends()
    until("what they had claimed is carried out", lambda: not stack.open_plans(), seconds=2 * PATIENCE)
    carried_out = stack.outcomes()
    stack.thaw()
    assert stack.outcomes() == carried_out, "a worker that was frozen wrote what others had carried out"
    assert not any("refresh_fault" in process.output for process in stack.frozen), "it tried to write it"
    assert max(witness.forced().values()) == 1, "a forced call came twice"
    assert len(witness.asked()) == PLANS
    assert {row.outcome for row in carried_out} <= {"first_seen", "renewed", "unchanged"}
    assert len(carried_out) == PLANS
    again = [row for row in carried_out if row.attempts > 1]
    assert any(row.forced for row in again), "no strike has met a forced refresh: the test shows nothing"
    [(opened,)] = stack.waylink.sql("SELECT count(*) FROM refreshes WHERE finished_at IS NULL")
    assert opened == PLANS  # the next plan of each
