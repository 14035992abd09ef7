"""The web side under load while its database, its disk or itself goes away: nothing acknowledged is lost (promise 1),
and no webhook is refused faster than Nango's breaker bears (promise 2)."""

import asyncio
import os
import resource
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.domain.signature import HEADER, sign
from app.runtime.file_limit import raise_file_limit
from tests.acceptance.harness import Process, Waylink, creation, descendants, installation, status, until
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer
from tests.waiting import PATIENCE

KEY = "a-signing-key"
FASTEST_REFUSAL = 5.9  # seconds; that none comes too late for Nango is held by unit/test_deadlines.py
RATE = 50  # webhooks per second
OUTAGE = 10.0


@dataclass
class Answer:
    """`status` is 0 when the connection ended without one."""

    body: bytes
    status: int
    seconds: float


class Load(threading.Thread):
    """Posts unique webhooks at a steady rate, without waiting for earlier ones, each on its own connection."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.answers, self.begun = port, list[Answer](), 0
        self._enough = threading.Event()

    def run(self) -> None:
        asyncio.run(self._post())

    async def _post(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._enough.is_set():
                group.create_task(self.one(creation(self.begun, group="load"), self.port))
                self.begun += 1
                await asyncio.sleep(1 / RATE)

    async def one(self, body: bytes, port: int) -> None:
        started, status = time.monotonic(), 0
        with suppress(ConnectionError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request(body))
                head = await reader.read(12)
                status = int(head[9:12] or 0)
            finally:
                writer.close()
        self.answers.append(Answer(body, status, time.monotonic() - started))

    def wait_for_answers(self) -> list[Answer]:
        """Send no more, wait for all answers."""
        self._enough.set()
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.answers


def request(body: bytes) -> bytes:
    head = f"POST /webhooks/nango HTTP/1.1\r\nhost: x\r\n{HEADER}: {sign(body, KEY)}\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


@contextmanager
def load(port: int) -> Iterator[Load]:
    """Runs within the block, and for a moment before it and after it."""
    running = Load(port)
    running.start()
    try:
        until("answers come in", lambda: len(running.answers) > RATE // 2)
        yield running
        enough = len(running.answers) + RATE // 2
        until("answers come in again", lambda: len(running.answers) > enough)
    finally:
        running.wait_for_answers()


@contextmanager
def web(valkey: ValkeyServer, **variables: str) -> Iterator[tuple[Waylink, Process]]:
    valkey.start()
    with installation(WAYLINK_NANGO_SIGNING_KEYS=KEY, WAYLINK_BROKER_URL=valkey.url(0), **variables) as waylink:
        assert waylink.run("migrate").returncode == 0
        process = waylink.spawn("web")
        until("it answers", lambda: waylink.status("/healthz") == 200)
        yield waylink, process


@pytest.fixture(scope="module")
def on_postgresql(valkey: ValkeyServer, postgres: PostgresServer) -> Iterator[tuple[Waylink, Process]]:
    postgres.start()
    url = postgres.create_database()
    with web(valkey, WAYLINK_DATABASE_URL=url) as running:
        yield running
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def on_sqlite(valkey: ValkeyServer) -> Iterator[tuple[Waylink, Process]]:
    with web(valkey) as running:
        yield running


def another(waylink: Waylink, *options: str) -> tuple[Process, int]:
    """One more `waylink web` on the same database, and its port."""
    port = free_port()
    process = waylink.spawn("web", *options, WAYLINK_PORT=str(port))
    until("it answers", lambda: status(port) == 200)
    return process, port


@contextmanager
def frozen(postgres: PostgresServer) -> Iterator[None]:
    """Every process of the server stands still, and keeps its connections."""
    pid = postgres._process.pid
    members = {pid, *descendants(pid)}
    for member in members:
        os.kill(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in members:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGCONT)


def stored(waylink: Waylink) -> list[bytes]:
    return [bytes(body) for (body,) in waylink.sql("SELECT body FROM events")]


def audit(waylink: Waylink, answers: list[Answer]) -> None:
    """Each acknowledged webhook is stored once; each refused one was refused late, and is accepted when sent again."""
    refused = [answer for answer in answers if answer.status != 202]
    assert {answer.status for answer in refused} <= {503}
    assert all(answer.seconds > FASTEST_REFUSAL for answer in refused), refused
    for answer in refused:
        assert waylink.post(answer.body, KEY).status_code == 202
    bodies = stored(waylink)
    assert len(bodies) == len(set(bodies))
    assert set(bodies) >= {answer.body for answer in answers}


def test_ten_seconds_without_a_database_cost_no_webhook(
    on_postgresql: tuple[Waylink, Process], on_sqlite: tuple[Waylink, Process], postgres: PostgresServer
) -> None:
    """PostgreSQL is stopped, the SQLite file locked. A process that starts meanwhile holds requests too."""
    (first, process), (second, _) = on_postgresql, on_sqlite
    with (
        load(first.port) as sent,
        load(second.port) as sent_too,
        closing(sqlite3.connect(second.data / "waylink.db", isolation_level=None, timeout=10)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        try:
            postgres.stop()
            ends_at = time.monotonic() + OUTAGE
            late, port = another(first)
            held = threading.Thread(target=lambda: asyncio.run(sent.one(creation(0, group="late"), port)))
            held.start()
            time.sleep(max(0.0, ends_at - time.monotonic()))
        finally:
            postgres.start()
            other.execute("ROLLBACK")
    held.join(PATIENCE)
    assert not held.is_alive()
    late.close()
    audit(first, sent.answers)
    audit(second, sent_too.answers)
    assert process.running()
    assert "Traceback" not in process.output


def test_a_postgresql_that_stands_still_costs_no_webhook(
    on_postgresql: tuple[Waylink, Process], postgres: PostgresServer
) -> None:
    waylink, _ = on_postgresql
    with load(waylink.port) as sent, frozen(postgres):
        until("many are held", lambda: sent.begun - len(sent.answers) > 3 * RATE)
        assert waylink.status("/healthz") == 200
    audit(waylink, sent.answers)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
def test_a_full_disk_is_503_in_good_time_and_then_forgotten(on_sqlite: tuple[Waylink, Process]) -> None:
    waylink, process = on_sqlite
    body, later = creation(1), creation(2)
    assert waylink.post(creation(0), KEY).status_code == 202
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    sent = Load(waylink.port)
    asyncio.run(sent.one(body, waylink.port))
    [refused] = sent.answers
    assert refused.status == 503
    assert refused.seconds > FASTEST_REFUSAL
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    for webhook in (body, later):
        assert waylink.post(webhook, KEY).status_code == 202
    assert {body, later} < set(stored(waylink))


def serving(process: Process) -> set[int]:
    """The processes that serve on the socket of this one."""
    commands = process.descendants()
    return {pid for pid, command in commands.items() if " web --listener " in command and "prctl" not in command}


def test_processes_that_are_killed_are_replaced_and_lose_nothing(on_postgresql: tuple[Waylink, Process]) -> None:
    waylink, _ = on_postgresql
    parent, port = another(waylink, "--processes", "2")
    until("two serve", lambda: len(serving(parent)) == 2)
    sent = Load(port)
    sent.start()
    for _ in range(3):
        enough = len(sent.answers) + RATE // 2
        until("answers come in", lambda enough=enough: len(sent.answers) > enough)
        victim = min(serving(parent))
        os.kill(victim, signal.SIGKILL)
        until("it is replaced", lambda gone=victim: len(serving(parent) - {gone}) == 2)
    parent.send(signal.SIGTERM)
    assert parent.ends() == 0
    answers = sent.wait_for_answers()
    assert parent.orphans() == {}
    assert {answer.status for answer in answers} <= {0, 202, 503}
    bodies = stored(waylink)
    assert len(bodies) == len(set(bodies))
    assert {answer.body for answer in answers if answer.status == 202} <= set(bodies)


@pytest.mark.skipif(sys.platform != "linux", reason="only its kernel ends children with their parent")
def test_a_killed_parent_takes_its_processes_with_it(on_sqlite: tuple[Waylink, Process]) -> None:
    waylink, _ = on_sqlite
    parent, port = another(waylink, "--processes", "2")
    until("two serve", lambda: len(serving(parent)) == 2)
    parent.kill()
    until("no process is left", lambda: not parent.orphans())
    assert status(port) == 0


def test_the_same_bytes_to_two_processes_at_once_are_one_event(on_postgresql: tuple[Waylink, Process]) -> None:
    waylink, _ = on_postgresql
    process, other = another(waylink)
    bodies = [creation(number) for number in range(20)]
    sent = Load(waylink.port)

    async def at_once() -> None:
        await asyncio.gather(*(sent.one(body, port) for body in bodies for port in (waylink.port, other) * 3))

    asyncio.run(at_once())
    assert [answer.status for answer in sent.answers] == [202] * 120
    rows = [(bytes(body), count) for body, count in waylink.sql("SELECT body, duplicates FROM events")]
    assert sorted(row for row in rows if row[0] in bodies) == sorted((body, 5) for body in bodies)
    process.close()


def test_an_end_in_the_middle_of_a_standstill_is_bounded_and_acknowledges_nothing(
    on_postgresql: tuple[Waylink, Process], postgres: PostgresServer
) -> None:
    waylink, _ = on_postgresql
    process, port = another(waylink)
    sent = Load(port)
    sent.start()
    until("answers come in", lambda: len(sent.answers) > RATE // 2)
    with frozen(postgres):
        until("many are held", lambda: sent.begun - len(sent.answers) > RATE)
        process.send(signal.SIGTERM)
        process.ends()
        answers = sent.wait_for_answers()
    assert {answer.status for answer in answers} <= {0, 202, 503}
    assert {answer.body for answer in answers if answer.status == 202} <= set(stored(waylink))


def test_thousands_of_idle_connections_stop_no_webhook_and_go_away(on_sqlite: tuple[Waylink, Process]) -> None:
    waylink, process = on_sqlite
    limit = raise_file_limit()
    count = min(10_000, limit - 1_000)
    before = memory(process)
    with ExitStack() as stack:
        most = 0  # on a slow machine the first are hung up on before the last are open
        for number in range(count):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", waylink.port), timeout=PATIENCE))
            if number % 2:
                idle.sendall(request(b"{}")[:40])
            if number % 500 == 499:
                most = max(most, len(files(process)))
        assert most > min(2_000, count // 2)
        assert waylink.post(creation(1), KEY).status_code == 202
        assert memory(process) - before < 20 * most // 1024, "under 20 kB each"
        until("they are hung up on", lambda: len(files(process)) < 200)
    assert waylink.post(creation(2), KEY).status_code == 202


def memory(process: Process) -> int:
    """Resident, in MiB."""
    [line] = [line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def files(process: Process) -> list[Path]:
    return list(Path(f"/proc/{process.pid}/fd").iterdir())
