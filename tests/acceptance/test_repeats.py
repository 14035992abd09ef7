"""Promise 4, with real processes: two occurrences with the same bytes are two jobs, a retry of Nango's is none."""

import json
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx
import pytest
from sqlalchemy import text

from app.db.engine import connect
from app.domain.signature import HEADER, sign
from tests.acceptance.harness import Process, Waylink, creation, installation, status, until
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer

KEY = "a-signing-key"
BOTH = "both"  # the environment to which both of Nango's URLs lead
CONFIG = f"""
[environments.default]
signing_keys_env = "KEYS"
[environments.{BOTH}]
signing_keys_env = "KEYS"
both_urls = true
[teams.crm.destinations.jobs]
kind = "celery"
queue = "team.crm.jobs"
[[routes]]
name = "all"
team = "crm"
destination = "jobs"
job = "crm.all"
pattern = '{{"id": [{{"exists": true}}]}}'
"""


class Site:
    """Two web processes, each on a port of its own, and the workers."""

    def __init__(self, waylink: Waylink) -> None:
        self.waylink, self.ports = waylink, [0, 0]
        self.webs: list[Process] = []
        for number in range(2):
            self.webs.append(self.start(number))
        self.worker = waylink.spawn("worker", "events")
        waylink.spawn("worker", "io")
        waylink.spawn("beat")

    def start(self, number: int) -> Process:
        port = self.ports[number] = free_port()
        process = self.waylink.spawn("web", WAYLINK_PORT=str(port))
        until("it answers", lambda: status(port) == 200)
        return process

    def post(self, body: bytes, *, to: int = 0, environment: str = "") -> None:
        url = f"http://127.0.0.1:{self.ports[to]}/webhooks/nango/{environment}".removesuffix("/")
        answer = httpx.post(url, content=body, headers={HEADER: sign(body, KEY)}, timeout=30, trust_env=False)
        assert answer.status_code == 202

    def begin(self, body: bytes, *, to: int = 0) -> socket.socket:
        """Send it, and wait for nothing."""
        raw = socket.create_connection(("127.0.0.1", self.ports[to]), timeout=30)
        head = f"POST /webhooks/nango HTTP/1.1\r\nhost: x\r\n{HEADER}: {sign(body, KEY)}\r\n"
        raw.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return raw

    def jobs(self, body: bytes) -> list[int]:
        """The number of jobs of each event with these bytes, the oldest event first."""
        rows = self.waylink.sql(
            "SELECT events.id, count(jobs.id) FROM events LEFT JOIN jobs ON jobs.event_id = events.id "
            "WHERE body = :body GROUP BY events.id ORDER BY events.id",
            body=body,
        )
        return [count for _, count in rows]

    def finished_jobs(self, body: bytes, jobs: list[int]) -> None:
        """Wait until nothing of these bytes is left to be decided or processed; the jobs then."""
        ours = "(SELECT id FROM events WHERE body = :body)"
        left = (
            f"SELECT count(*) FROM events WHERE body = :body AND state <> 'processed' UNION ALL "
            f"SELECT count(*) FROM repeats WHERE event_id IN {ours} AND belongs_to IS NULL"
        )
        until("all is decided", lambda: self.jobs(body) and not any(n for (n,) in self.waylink.sql(left, body=body)))
        assert self.jobs(body) == jobs

    def locks(self) -> int:
        """Statements that wait for a lock."""
        [(count,)] = self.waylink.sql("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return count

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Writes into this table have to wait meanwhile."""
        with closing(connect(self.waylink.env["WAYLINK_DATABASE_URL"])) as database, database.write() as session:
            session.execute(text(f"LOCK TABLE {table} IN SHARE MODE"))
            yield


@pytest.fixture(scope="module")
def site(valkey: ValkeyServer, postgres: PostgresServer) -> Iterator[Site]:
    valkey.start()
    postgres.start()
    url = postgres.create_database()
    variables = {"WAYLINK_DATABASE_URL": url, "WAYLINK_BROKER_URL": valkey.url(0), "KEYS": KEY}
    with installation(config=CONFIG, **variables) as waylink:
        done = waylink.run("migrate")
        assert done.returncode == 0, done.stderr
        yield Site(waylink)
    postgres.drop_database(url)


def forward(**members: object) -> bytes:
    """A provider's webhook about no particular connection, so that its event waits for none."""
    body = {"from": "slack", "type": "forward", "providerConfigKey": "slack", "payload": {"n": uuid.uuid4().hex}}
    return json.dumps({**body, **members}, sort_keys=True, separators=(",", ":")).encode()


def test_two_occurrences_are_two_jobs_whichever_process_takes_them(site: Site) -> None:
    body = forward()
    site.post(body, to=0)
    site.post(body, to=1)
    site.post(body, to=0)
    site.finished_jobs(body, [1, 1, 1])


def test_a_megabyte_that_comes_twice_is_two_jobs(site: Site) -> None:
    body = forward(payload={"n": uuid.uuid4().hex, "text": "x" * 1024 * 1024})
    site.post(body)
    site.post(body)
    site.finished_jobs(body, [1, 1])


def test_twins_in_one_commit_are_two_jobs(site: Site) -> None:
    body = forward()
    with site.locked("deliveries"):
        others = [site.begin(forward())]  # its commit waits, and so the twins come into the next one together
        until("it waits", site.locks)
        twins = [site.begin(body), site.begin(body)]
    for raw in (*others, *twins):
        with raw:
            assert raw.recv(12).endswith(b"202")
    site.finished_jobs(body, [1, 1])


def test_a_client_that_leaves_before_its_answer_and_sends_again_is_one_job(site: Site) -> None:
    body = forward()
    with site.locked("deliveries"):
        raw = site.begin(body)
        until("it waits", site.locks)
        raw.close()
    until("it is stored", lambda: site.jobs(body))
    site.post(body, to=1)
    site.finished_jobs(body, [1])
    site.post(body, to=0)
    site.finished_jobs(body, [1, 1])


def test_a_process_that_is_killed_between_commit_and_answer_and_a_retry_is_one_job(site: Site) -> None:
    body = stored_by_a_process_that_stands_still(site)
    site.webs[0].kill()
    site.post(body, to=1)
    site.webs[0] = site.start(0)
    # As if a minute had passed: the killed process counts as dead then.
    site.waylink.sql("UPDATE repeats SET received_at = received_at - interval '60 seconds' WHERE belongs_to IS NULL")
    site.finished_jobs(body, [1])


def stored_by_a_process_that_stands_still(site: Site) -> bytes:
    """A body that the database has committed, while the first web process was stopped before it heard of that."""
    for _ in range(10):
        body = forward()
        with site.locked("deliveries"), site.begin(body):
            until("it waits", site.locks)
            site.webs[0].send(signal.SIGSTOP)
        until("it waits no more", lambda: not site.locks())
        if site.jobs(body):
            return body
        site.webs[0].send(signal.SIGCONT)  # it had given up the wait before it was stopped
        until("it is stored", lambda stored=body: site.jobs(stored))
    raise AssertionError("it was never stopped in time")


def test_where_both_urls_lead_here_it_is_one_job(site: Site) -> None:
    body = forward()
    site.post(body, environment=BOTH)
    site.post(body, to=1, environment=BOTH)
    site.finished_jobs(body, [1])


def test_auth_webhooks_are_one_event(site: Site) -> None:
    body = creation(1)
    site.post(body)
    site.post(body, to=1)
    site.finished_jobs(body, [1])


def test_a_worker_that_is_killed_while_it_makes_the_further_event_makes_it_once(site: Site) -> None:
    body = forward()
    site.post(body)
    site.finished_jobs(body, [1])
    site.worker.send(signal.SIGSTOP)
    site.post(body)
    with closing(connect(site.waylink.env["WAYLINK_DATABASE_URL"])) as database, database.write() as session:
        session.execute(text("SELECT number FROM repeats WHERE belongs_to IS NULL FOR UPDATE"))
        site.worker.send(signal.SIGCONT)
        until("the event is made, and its repeat waits to be noted as decided", site.locks)
        site.worker.kill()
    site.waylink.sql("UPDATE event_leases SET until_at = now()")  # instead of waiting for its end
    site.worker = site.waylink.spawn("worker", "events")
    site.finished_jobs(body, [1, 1])
