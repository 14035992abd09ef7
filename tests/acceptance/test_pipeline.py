"""From webhook to job, once and without loss, while processes are killed and brokers and databases go away (promise 1).

Twice: `waylink up` on SQLite with its bundled Valkey, and separate processes on PostgreSQL with a Valkey of their own.
Teams have a broker apart in both, so that it can be frozen alone.
"""

import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest
import redis

from app.runtime import embedded_broker
from tests.acceptance.harness import Process, Sandbox, Waylink, creation, installation, until
from tests.servers import PostgresServer, ValkeyServer

API_KEY, SIGNING_KEY = "4d70f328-6b39-451e-b92f-21969323b448", "404a7bbb-deae-4a85-b048-09d6d4ad9e72"
QUEUE = "team.crm.jobs"
HELD = 10.0  # seconds; that the 503 comes before Nango gives up is held by unit/test_deadlines.py
CONFIG = f"""
[teams.crm.destinations.jobs]
kind = "celery"
queue = "{QUEUE}"

[[routes]]
name = "import"
team = "crm"
destination = "jobs"
job = "crm.import"
pattern = '{{"type": ["connection.created"]}}'

[[routes]]
name = "welcome"
team = "crm"
destination = "jobs"
job = "crm.welcome"
pattern = '{{"type": ["connection.linked"]}}'
"""
JOBS_EACH = 2  # one of the webhook's event, one of the event that names the connection's owner


class Stack:
    """A running installation of either kind."""

    def __init__(self, waylink: Waylink, sandbox: Sandbox, teams: ValkeyServer) -> None:
        self.waylink, self.sandbox, self.teams = waylink, sandbox, teams
        self.accepted: dict[str, bytes] = {}

    def pid(self, name: str) -> int | None:
        raise NotImplementedError

    def kill(self, name: str) -> None:
        """`kill -9`; a supervisor starts the process again."""
        raise NotImplementedError

    def internal(self) -> redis.Redis:
        """A client of the internal broker."""
        raise NotImplementedError

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        raise NotImplementedError

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """Nothing can be stored for as long as this lasts."""
        raise NotImplementedError

    # Webhooks

    def bodies(self, count: int, group: str) -> list[bytes]:
        """Webhooks of new connections, which the sandbox has."""
        bodies = [creation(number, group=group) for number in range(count)]
        self.sandbox.register(*bodies)
        return bodies

    def post(self, bodies: Sequence[bytes]) -> list[int]:
        """Post them as eight senders; the answers' statuses."""
        with ThreadPoolExecutor(8) as pool:
            return [*pool.map(self.post_one, bodies)]

    def post_one(self, body: bytes) -> int:
        """Post one webhook and keep an acknowledged one for the audit; its status, 0 without an answer."""
        try:
            answer = self.waylink.post(body, self.sandbox.signing_key)
        except httpx.TransportError:
            return 0
        if answer.status_code == 202:
            self.accepted[answer.json()["event_id"]] = body
        return answer.status_code

    def insist(self, bodies: Sequence[bytes]) -> None:
        """Post as Nango does, again when there is no answer or a 5xx."""
        left = [*bodies]

        def accepted() -> bool:
            statuses = self.post(left)
            assert not any(300 <= status < 500 for status in statuses), statuses  # Nango would give it up
            left[:] = [body for body, status in zip(left, statuses, strict=True) if status != 202]
            return not left

        until("all accepted", accepted, every=0.5)

    # What has become of them

    def count(self, statement: str) -> int:
        return self.waylink.sql(f"SELECT count(*) FROM {statement}")[0][0]

    def finished(self) -> bool:
        unsettled = "events WHERE state <> 'processed'"
        unfinished = "jobs WHERE state <> 'completed'"
        return not self.count(unsettled) and not self.count(unfinished) and len(self.accepted) <= self.count("links")

    def wait_until_finished(self) -> None:
        until("everything is processed and delivered", self.finished, every=0.2)

    def forget_leases(self) -> None:
        """As if the minute had passed after which a dead worker's claims are taken over (app/deadlines.py)."""
        long_ago = "'2026-01-01 00:00:00.000000'"  # text on SQLite, in the session's UTC on PostgreSQL
        self.waylink.sql(f"UPDATE event_leases SET until_at = {long_ago}")
        self.waylink.sql(f"UPDATE jobs SET next_at = {long_ago} WHERE state = 'running'")

    def audit(self) -> None:
        """Every acknowledged event processed; one open link per connection; one job per event and route, delivered."""
        self.wait_until_finished()
        waylink = self.waylink
        processed = {row[0] for row in waylink.sql("SELECT id FROM events WHERE state = 'processed'")}
        assert {id_.removeprefix("evt_") for id_ in self.accepted} <= {_hex(id_) for id_ in processed}
        links = waylink.sql(
            "SELECT c.connection_id, c.status, u.external_id FROM links l "
            "JOIN connections c ON c.id = l.connection_ref JOIN users u ON u.id = l.user_id WHERE l.closed_at IS NULL"
        )
        wanted = [json.loads(body) for body in self.accepted.values()]
        assert sorted(links) == sorted((body["connectionId"], "active", body["tags"]["end_user_id"]) for body in wanted)
        assert self.count("links") == self.count("connections") == len(wanted)
        assert self.count("refreshes WHERE finished_at IS NULL") == len(wanted)
        jobs = waylink.sql("SELECT j.id, j.route, e.connection_id FROM jobs j JOIN events e ON e.id = j.event_id")
        pairs = Counter((route, connection_id) for _, route, connection_id in jobs)
        expected = {(route, body["connectionId"]) for route in ("import", "welcome") for body in wanted}
        assert pairs == Counter(expected)
        delivered = self.delivered()
        assert delivered.keys() == {f"job_{_hex(job_id)}" for job_id, _, _ in jobs}

    def delivered(self) -> Counter[str]:
        """The task ids in the team's queue, with how often each is there."""
        with redis.Redis.from_url(self.teams.url(1)) as client:
            messages = [json.loads(raw) for raw in client.lrange(QUEUE, 0, -1)]
        return Counter(message["headers"]["id"] for message in messages)

    def ready(self) -> dict[str, Any]:
        """The answer of /readyz, whose status and `ready` agree."""
        answer = self.waylink.http.get("/readyz")
        facts = answer.json()
        assert (answer.status_code == 200) is facts["ready"]
        assert self.waylink.status("/healthz") == 200
        return facts


class Together(Stack):
    """`waylink up`: SQLite, the bundled Valkey and the sandbox; the supervisor restarts what dies."""

    def __init__(self, waylink: Waylink, teams: ValkeyServer) -> None:
        self._up = waylink.up("--no-scenario")
        super().__init__(waylink, waylink.sandbox(), teams)

    def pid(self, name: str) -> int | None:
        return self._up.child(name)

    def kill(self, name: str) -> None:
        victim = until(name, lambda: self.pid(name))
        os.kill(victim, signal.SIGKILL)
        until(f"another {name}", lambda: self.pid(name) not in {None, victim})

    def internal(self) -> redis.Redis:
        return redis.Redis.from_url(embedded_broker.redis_url(self.waylink.data, 0))

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        with frozen(until("broker", lambda: self.pid("valkey-server"))):
            yield

    @contextmanager
    def database_away(self) -> Iterator[None]:
        with closing(sqlite3.connect(self.waylink.data / "waylink.db", timeout=10, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield


class Apart(Stack):
    """One process each, as under a process manager, on servers that the test can stop."""

    def __init__(self, waylink: Waylink, teams: ValkeyServer, broker: ValkeyServer, postgres: PostgresServer) -> None:
        self.broker, self.postgres = broker, postgres
        url = f"http://127.0.0.1:{waylink.sandbox_port}"
        waylink.env |= {
            "WAYLINK_NANGO_BASE_URL": url,
            "WAYLINK_NANGO_API_KEY": API_KEY,
            "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
            "WAYLINK_SANDBOX_API_KEY": API_KEY,
            "WAYLINK_SANDBOX_SIGNING_KEY": SIGNING_KEY,
        }
        super().__init__(waylink, Sandbox(base_url=url, api_key=API_KEY, signing_key=SIGNING_KEY), teams)
        migrated = waylink.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        self._processes = {name: self._start(name) for name in ("sandbox", "web", "events", "io", "beat")}
        for name in ("events", "io"):
            self._processes[name].says(f"{name}-{self.pid(name)}@")
        until("web answers", lambda: waylink.status("/readyz") == 200)
        self._processes["sandbox"].says("Nango sandbox at")

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name] = self._start(name)

    def internal(self) -> redis.Redis:
        return redis.Redis.from_url(self.broker.url(0))

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        self.broker.stop()
        try:
            yield
        finally:
            self.broker.start()

    @contextmanager
    def database_away(self) -> Iterator[None]:
        self.postgres.stop()
        try:
            yield
        finally:
            self.postgres.start()

    def _start(self, name: str) -> Process:
        return self.waylink.spawn(*(("worker", name) if name in {"events", "io"} else (name,)))


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop the process with SIGSTOP: it keeps its connections and answers nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def broker() -> Iterator[ValkeyServer]:
    """The internal broker of the separate processes; the session's Valkey is the teams'."""
    server = ValkeyServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module", params=["up, SQLite", "apart, PostgreSQL"])
def stack(
    request: pytest.FixtureRequest, valkey: ValkeyServer, broker: ValkeyServer, postgres: PostgresServer
) -> Iterator[Stack]:
    valkey.start()
    valkey.flush()
    teams = {"WAYLINK_TEAM_BROKER_URL": valkey.url(1)}
    if request.param == "up, SQLite":
        with installation(config=CONFIG, **teams) as waylink:
            yield Together(waylink, valkey)
        return
    postgres.start()
    urls = {"WAYLINK_DATABASE_URL": postgres.create_database(), "WAYLINK_BROKER_URL": broker.url(0)}
    with installation(config=CONFIG, **teams, **urls) as waylink:
        yield Apart(waylink, valkey, broker, postgres)
    postgres.drop_database(urls["WAYLINK_DATABASE_URL"])


def test_workers_killed_in_the_middle_of_their_batches_lose_and_double_nothing(stack: Stack) -> None:
    bodies = stack.bodies(100, "before")
    stack.insist(bodies)
    until("they are processed", lambda: not stack.count("events WHERE state = 'received'"))
    # Made by now, so that no page of Nango's list that a worker remembers shows them.
    bodies += stack.bodies(200, "killed")
    # Nango does not answer: a batch is claimed and cannot be applied. So the kill comes in the middle.
    with frozen(until("sandbox", lambda: stack.pid("sandbox"))):
        stack.insist(bodies[100:200])
        claimed = "event_leases"

        def caught() -> int:
            """A worker that has found Nango standing still gives batches back at once; its successor has not, yet."""
            until("a batch is claimed", lambda: stack.count(claimed))
            stack.kill("events")
            return stack.count(claimed)

        until("a worker is killed with a batch in hand", caught)
    stack.forget_leases()
    # The team's broker does not answer: jobs are being delivered.
    with frozen(stack.teams._process.pid):
        stack.insist(bodies[200:])
        running = "jobs WHERE state = 'running'"

        def caught_at_it() -> int:
            until("jobs are being delivered", lambda: stack.count(running))
            stack.kill("io")
            return stack.count(running)

        until("a worker is killed with jobs in hand", caught_at_it)
        stack.kill("beat")
    stack.forget_leases()
    stack.audit()
    assert len([body for body in bodies if body in stack.accepted.values()]) == 300


def test_web_killed_while_it_is_posted_to_has_stored_what_it_acknowledged(stack: Stack) -> None:
    bodies = stack.bodies(60, "web-killed")
    before = len(stack.accepted)
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(stack.post, bodies)
        until("some are accepted", lambda: len(stack.accepted) - before >= 5, every=0.001)
        stack.kill("web")
        statuses = posting.result()
    acknowledged = {id_.removeprefix("evt_") for id_ in stack.accepted}
    stored = {_hex(row[0]) for row in stack.waylink.sql("SELECT id FROM events")}
    assert acknowledged <= stored
    until("web is back", lambda: stack.waylink.status("/readyz") == 200)
    stack.insist([body for body, status in zip(bodies, statuses, strict=True) if status != 202])
    stack.audit()


def test_an_internal_broker_that_forgets_everything_loses_nothing(stack: Stack) -> None:
    bodies = stack.bodies(100, "flushed")
    with ThreadPoolExecutor(1) as pool, stack.internal() as client:
        posting = pool.submit(stack.post, bodies)
        while not posting.done():
            client.flushall()
        assert set(posting.result()) == {202}
        client.flushall()
    stack.audit()


def test_without_the_internal_broker_webhooks_are_stored_and_sent_on_later(stack: Stack) -> None:
    bodies = stack.bodies(40, "no-broker")
    with stack.broker_away():
        assert set(stack.post(bodies)) == {202}
        until("it says so", lambda: stack.ready() == {"ready": False, "database": "ok", "broker": "unreachable"})
    until("ready again", lambda: stack.ready()["ready"])
    stack.forget_leases()
    stack.audit()


def test_a_database_that_is_away_for_a_moment_costs_no_webhook(stack: Stack) -> None:
    bodies = stack.bodies(8, "moment")
    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        with stack.database_away():
            posted = [pool.submit(stack.post_one, body) for body in bodies]
            assert not wait(posted, timeout=1.5).done  # held, neither refused nor acknowledged
            assert stack.waylink.status("/healthz") == 200
        statuses = {future.result() for future in posted}
        # A slow machine may need more than a moment to start the database again.
        assert statuses == {202} or (statuses <= {202, 503} and time.monotonic() - began > HELD)
    stack.insist([body for body in bodies if body not in stack.accepted.values()])
    stack.forget_leases()
    stack.audit()


@pytest.mark.parametrize("stack", ["apart, PostgreSQL"], indirect=True, scope="module")
def test_a_database_that_stays_away_is_said_so_late_enough_for_nango(stack: Stack) -> None:
    bodies = stack.bodies(4, "away")
    with ThreadPoolExecutor(4) as pool:
        with stack.database_away():
            started = time.monotonic()
            posted = [pool.submit(stack.post_one, body) for body in bodies]
            away = {"ready": False, "database": "connection refused", "broker": "ok"}
            until("it says so", lambda: stack.ready() == away)
            assert [future.result() for future in posted] == [503] * 4
            assert time.monotonic() - started > HELD
        until("ready again", lambda: stack.ready()["ready"])
    stack.insist(bodies)
    stack.forget_leases()
    stack.audit()


def _hex(value: Any) -> str:
    """An id of the database as it is shown, without its prefix."""
    return value.hex if hasattr(value, "hex") else str(value).replace("-", "")
