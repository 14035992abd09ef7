"""A dead and a hanging broker beside a live one: they delay their own jobs only, which arrive when they are back.

Brokers fail as machines do: one takes no connections, the other takes them and never answers (promise 10).
"""

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from kombu import Connection

from app.sealing import new_key
from bench.audit_sender import webhook
from bench.load import KEY
from bench.product import QUEUE, TEAM, Product, product
from tests.acceptance.held import api_of
from tests.proxy import Proxy, proxied
from tests.rabbit import RabbitServer
from tests.servers import ValkeyServer
from tests.waiting import until

RABBIT = [
    pytest.mark.rabbitmq,
    pytest.mark.skipif(not RabbitServer.program.exists(), reason="needs Debian's rabbitmq-server"),
]
COUNT = 15  # webhooks of a wave; so many failures open a breaker
LIVE, DEAD, HANGING = "jobs", "dead", "hanging"
CONFIG = "".join(
    f'\n[teams.{TEAM}.destinations.{name}]\nkind = "celery"\nqueue = "team.{TEAM}.{name}"\n'
    f'broker_url_env = "BROKER_{name.upper()}"\n'
    f'\n[[routes]]\nname = "{name}"\nteam = "{TEAM}"\ndestination = "{name}"\njob = "{TEAM}.{name}"\n'
    'pattern = \'{"type": ["connection.created"]}\'\n'
    for name in (DEAD, HANGING)
)


@dataclass
class Brokers:
    """`dead` and `hanging`: the ways to the broker at `url`."""

    running: Product
    api: httpx.Client
    url: str
    dead: Proxy
    hanging: Proxy

    def post(self) -> None:
        """A wave of webhooks, each of which makes one job for each destination."""
        for number in range(COUNT):
            one = webhook(0.0, str(uuid.uuid4()), number, "creation")
            assert self.running.waylink.post(one.body, KEY).status_code == 202

    def jobs(self, destination: str) -> dict[str, str]:
        """States by id."""
        query: dict[str, Any] = {"destination": f"{TEAM}/{destination}", "limit": 200}
        listed = self.api.get("/jobs", params=query).raise_for_status().json()["data"]
        return {job["id"]: job["state"] for job in listed}

    def delivers(self, destination: str, waves: int) -> bool:
        """All jobs of so many waves are completed."""
        states = [*self.jobs(destination).values()]
        return len(states) == waves * COUNT and set(states) <= {"completed"}

    def is_failing(self, destination: str) -> bool:
        """Its breaker is open."""
        shown = self.api.get(f"/destinations/{TEAM}/{destination}").raise_for_status().json()
        return bool(shown["health"]) and shown["health"]["failing_since"] is not None

    def taken(self, destination: str) -> Counter[str]:
        """The ids of the jobs in a queue, which is empty afterwards."""
        live = destination == LIVE
        url, queue = (self.running.teams.url(1), QUEUE) if live else (self.url, f"team.{TEAM}.{destination}")
        found: Counter[str] = Counter()
        with Connection(url) as connection, connection.channel() as channel:
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found[message.headers["id"]] += 1
        return found


@contextlib.contextmanager
def brokers(server: ValkeyServer | RabbitServer) -> Iterator[Brokers]:
    url = server.url(1) if isinstance(server, ValkeyServer) else server.url()
    with proxied(server.port) as dead, proxied(server.port) as hanging:
        variables = {
            f"BROKER_{name.upper()}": url.replace(f":{server.port}/", f":{way.port}/")
            for name, way in ((DEAD, dead), (HANGING, hanging))
        }
        variables |= {"WAYLINK_SECRET_KEY": new_key(), "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8"}
        names = ("web-1", "events-1", "io-1", "beat")
        with (
            product(names, {LIVE: ["connection.created"]}, config=CONFIG, **variables) as running,
            api_of(running.waylink) as api,
        ):
            yield Brokers(running, api, url, dead, hanging)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [ValkeyServer, pytest.param(RabbitServer, marks=RABBIT)])
def test_a_dead_and_a_hanging_broker_delay_their_own_jobs_only_and_get_them_when_they_are_back(
    kind: type[ValkeyServer | RabbitServer],
) -> None:
    with contextlib.closing(kind()) as server:
        server.start()
        with brokers(server) as those:
            waves = 0

            def is_isolated() -> bool:
                """The live broker has all of two waves while the first attempt at the hanging one goes on."""
                nonlocal waves
                those.dead.resume()
                those.hanging.resume()
                for name in (LIVE, DEAD, HANGING):
                    until("nothing waits", lambda name=name: those.delivers(name, waves))
                those.dead.refuse()
                those.dead.reset()
                those.hanging.stop_passing()
                for _ in range(2):
                    those.post()
                waves += 2
                until("the live one has all", lambda: those.delivers(LIVE, waves))
                return Counter(those.jobs(HANGING).values())["running"] == 2 * COUNT

            until("the live one is not held up", is_isolated)
            for name in (DEAD, HANGING):
                until("its breaker opens", lambda name=name: those.is_failing(name))
            those.post()
            waves += 1
            until("the live one has all", lambda: those.delivers(LIVE, waves))
            made = {name: those.jobs(name) for name in (LIVE, DEAD, HANGING)}
            for name in (DEAD, HANGING):
                assert "completed" not in list(made[name].values())[: 3 * COUNT]
            those.dead.resume()
            those.hanging.resume()
            for name in (DEAD, HANGING):
                until("it has all", lambda name=name: those.delivers(name, waves))
            for name, jobs in made.items():
                assert those.taken(name).keys() == jobs.keys() == those.jobs(name).keys()
