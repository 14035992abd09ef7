"""The whole job with TLS on every way that production has it: PostgreSQL, the brokers, and teams' brokers of their own.

Two processes of each kind, each server's certificate verified against its name by an authority of the tests' own.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

import httpx
import pytest
import redis
from kombu import Connection

from app.db.engine import connect
from app.domain.signature import HEADER, sign
from app.sealing import new_key
from bench.audit_rows import expire_leases
from bench.load import KEY, PATH
from bench.product import QUEUE, Product, product
from tests.acceptance.harness import Waylink, creation, until
from tests.certificates import Tls, issue
from tests.rabbit import RabbitServer
from tests.servers import ValkeyServer, know_tls

pytestmark = [
    pytest.mark.tls,
    pytest.mark.timeout(400),  # a slow machine takes half a minute for each start of RabbitMQ
    pytest.mark.skipif(not (know_tls() and RabbitServer.program.exists()), reason="needs Debian's servers"),
]
PROCESSES = ("sandbox", "web-1", "web-2", "events-1", "events-2", "io-1", "io-2", "beat")
QUEUES = {"import": QUEUE, "to-redis": "team.lake.jobs", "to-rabbitmq": "team.mail.jobs"}  # by route
OWN_BROKERS = f"""
[teams.lake.destinations.jobs]
kind = "celery"
queue = "{QUEUES["to-redis"]}"
broker_url_env = "LAKE_BROKER_URL"

[[routes]]
name = "to-redis"
team = "lake"
destination = "jobs"
job = "lake.import"
pattern = '{{"type": ["connection.linked"]}}'

[teams.mail.destinations.jobs]
kind = "celery"
queue = "{QUEUES["to-rabbitmq"]}"
broker_url_env = "MAIL_BROKER_URL"

[[routes]]
name = "to-rabbitmq"
team = "mail"
destination = "jobs"
job = "mail.welcome"
pattern = '{{"type": ["connection.linked"]}}'
"""


@dataclass
class Application:
    """An application that sends webhooks and takes jobs."""

    running: Product
    lake: ValkeyServer
    mail: RabbitServer
    sent: int = 0
    taken: dict[str, set[str]] = field(default_factory=lambda: {route: set() for route in QUEUES})

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(self.running.web_ports.values())

    def bodies(self, count: int) -> list[bytes]:
        """Webhooks of new connections, which the sandbox has."""
        bodies = [creation(self.sent + number) for number in range(count)]
        self.sent += count
        self.running.sandbox.register(*bodies)
        return bodies

    def post(self, bodies: Sequence[bytes]) -> list[int]:
        """To the web processes in turn, one after the other; the answers' statuses."""
        with httpx.Client(timeout=30, trust_env=False) as client:
            return [self._post(client, body) for body in bodies]

    def _post(self, client: httpx.Client, body: bytes) -> int:
        url = f"http://127.0.0.1:{next(self._turns)}{PATH}"
        return client.post(url, content=body, headers={HEADER: sign(body, KEY)}).status_code

    def take(self) -> None:
        """Empty the teams' queues."""
        for route, url in (("import", self.running.teams.url(1)), ("to-redis", self.lake.url(1))):
            with closing(redis.Redis.from_url(url)) as client:
                while message := client.rpop(QUEUES[route]):
                    self.taken[route].add(json.loads(message)["headers"]["id"])
        with Connection(self.mail.url()) as connection, connection.channel() as channel:
            while (message := channel.basic_get(QUEUES["to-rabbitmq"], no_ack=True)) is not None:
                self.taken["to-rabbitmq"].add(message.headers["id"])

    def everything_came(self) -> bool:
        """A link of each connection, and for each team one job, which is in its queue."""
        self.take()
        jobs: dict[str, list[str]] = {route: [] for route in QUEUES}
        for job_id, route in self.running.waylink.sql("SELECT id, route FROM jobs WHERE state = 'completed'"):
            jobs[route].append(f"job_{job_id.hex}")
        links = self.running.waylink.sql("SELECT count(*) FROM links WHERE closed_at IS NULL")
        return links == [(self.sent,)] and all(
            len(jobs[route]) == self.sent and set(jobs[route]) == self.taken[route] for route in QUEUES
        )

    def finishes(self) -> None:
        with closing(connect(self.running.database_url)) as database:
            expire_leases(database)  # of claims whose session was ended
        until("every link and job is there", self.everything_came, seconds=100, every=0.5)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return issue(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def application(tls: Tls) -> Iterator[Application]:
    with ExitStack() as stack:
        lake, mail = ValkeyServer(tls), RabbitServer(tls)
        for server in (lake, mail):
            stack.callback(server.close)
            server.start()
        with Connection(mail.url()) as connection:
            connection.default_channel.queue_declare(QUEUES["to-rabbitmq"], durable=True, auto_delete=False)
        variables = {
            "WAYLINK_SECRET_KEY": new_key(),
            "WAYLINK_DESTINATION_CA_FILE": str(tls.authority),
            "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
            "LAKE_BROKER_URL": lake.place(1),
            "MAIL_BROKER_URL": mail.tls_url(),
        }
        routes = {"import": ["connection.created"]}
        running = stack.enter_context(product(PROCESSES, routes, tls=tls, config=OWN_BROKERS, **variables))
        stack.enter_context(running.kept_up())
        yield Application(running, lake, mail)


def test_webhooks_to_two_processes_link_and_reach_teams_on_redis_and_rabbitmq(application: Application) -> None:
    assert application.post(application.bodies(40)) == [202] * 40
    application.finishes()


def test_a_restart_of_postgresql_costs_no_webhook_and_no_job(application: Application) -> None:
    first, meanwhile, after = (application.bodies(10) for _ in range(3))
    postgres = application.running.postgres
    assert postgres is not None
    with ThreadPoolExecutor(len(meanwhile)) as pool:
        assert application.post(first) == [202] * 10
        postgres.stop()
        posted = [pool.submit(application.post, [body]) for body in meanwhile]
        assert not wait(posted, timeout=2).done  # held
        postgres.start()
        assert [future.result() for future in posted] == [[202]] * 10
    assert application.post(after) == [202] * 10
    application.finishes()


def test_sessions_that_postgresql_ends_cost_no_webhook_and_no_job(application: Application) -> None:
    postgres = application.running.postgres
    assert postgres is not None
    for _ in range(3):
        postgres.administer("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'waylink'")
        assert application.post(application.bodies(6)) == [202] * 6
    application.finishes()


def test_servers_of_another_authority_are_not_believed(application: Application, tmp_path: Path) -> None:
    stranger = issue(tmp_path).authority
    waylink = application.running.waylink
    assert bad(waylink) == set()
    for name, what in (
        ("WAYLINK_DATABASE_URL", "database"),
        ("WAYLINK_BROKER_URL", "internal broker"),
        ("WAYLINK_TEAM_BROKER_URL", "team broker"),
    ):
        trusted = re.search("(?:sslrootcert|ssl_ca_certs)=([^&]+)", waylink.env[name])
        assert trusted is not None
        assert bad(waylink, **{name: waylink.env[name].replace(trusted[1], quote_plus(str(stranger)))}) == {what}


def bad(waylink: Waylink, **variables: str) -> set[str]:
    """The subjects that `waylink check` finds bad."""
    done = waylink.run("check", "--json", **variables)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    return {row["what"] for row in found if row["result"] == "bad"}
