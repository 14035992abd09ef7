"""Real processes, and an events worker whose ways to Nango, to the team's broker and to the database can be held up.

A worker that waits there stands between two of its commits, and no process has code for it. What is left of it all is
judged as by the loss audit.
"""

import contextlib
import itertools
import json
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import redis
from sqlalchemy import inspect, text

from app.db.engine import Database, connect, sqlite_file
from bench.audit_ledger import Ledger, verdict
from bench.audit_rows import broken_references, expire_leases, read_rows, unprocessed, unsettled
from bench.audit_sender import Webhook, webhook
from bench.load import KEY, body
from bench.product import QUEUE, Product, confirming, product
from tests.acceptance.harness import Waylink
from tests.proxy import Proxy, proxied
from tests.waiting import PATIENCE, until

ROUTES = {"import": ["connection.created"], "welcome": ["connection.linked"]}
UNLINKED = "no open link of the connection"
NAMES = ("sandbox", "web-1", "events-1", "io-1", "beat")


@dataclass
class Held:
    """`nango` and `teams`: the ways of `events-1` to the sandbox and to the team's broker. `database`: past any proxy.
    `others`: variables by which other processes go past these.
    """

    product: Product
    database: Database
    nango: Proxy
    teams: Proxy
    api: httpx.Client
    others: dict[str, str]
    ledger: Ledger = field(default_factory=Ledger)
    unlinked: set[str] = field(default_factory=set)  # the connections whose owner was removed
    _taken: Counter[str] = field(default_factory=Counter)  # from the team's queue so far
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # Webhooks

    def new(self, count: int = 1, *, owner: str = "") -> list[Webhook]:
        """Webhooks of new connections, which the sandbox has; of users who have others, too, or of this one."""
        made = [webhook(0.0, str(uuid.uuid4()), next(self._numbers), "creation") for _ in range(count)]
        if owner:
            made = [replace(one, body=body(one.sent.connection_id, tags={"end_user_id": owner})) for one in made]
        self.product.sandbox.register(*(one.body for one in made))
        return made

    def post(self, *webhooks: Webhook) -> list[str]:
        """Post them one after the other; the events' ids."""
        ids = []
        for one in webhooks:
            self.ledger.sent[one.digest] = one.sent
            answer = self.product.waylink.post(one.body, KEY)
            assert answer.status_code == 202, answer.text
            ids.append(answer.json()["event_id"])
            self.ledger.acknowledged.add((ids[-1], one.digest))
        return ids

    # What is there

    def jobs(self, state: str) -> list[dict[str, Any]]:
        return self.get("/jobs", state=state, limit=200)["data"]

    def running(self) -> set[str]:
        return {job["id"] for job in self.jobs("running")}

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self.api.get(path, params=query).raise_for_status().json()

    def ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Status and answer of a call that may be refused."""
        answer = self.api.request(method, path, **options)
        return answer.status_code, answer.json()

    def queued(self) -> set[str]:
        """The ids of the jobs in the team's queue."""
        with contextlib.closing(redis.Redis.from_url(self.product.teams.url(1))) as client:
            return {json.loads(message)["headers"]["id"] for message in client.lrange(QUEUE, 0, -1)}

    def unprocessed(self) -> int:
        return unprocessed(self.database)

    # Processes

    def start(self, *names: str) -> None:
        """Start those that do not run; returns when they take work."""
        for name in names:
            if name not in self.product.processes:
                self.product.start(name, **({} if name == "events-1" else self.others))
        self.product.ready()

    def kill(self, name: str) -> None:
        """`kill -9`."""
        self.product.processes.pop(name).kill()

    # Ways that are held up

    @contextlib.contextmanager
    def held(self, way: Proxy) -> Iterator[None]:
        """Nothing passes. What was on its way goes on at the end, unless the way was reset."""
        way.stop_passing()
        try:
            yield
        finally:
            way.resume()

    @contextlib.contextmanager
    def database_held(self) -> Iterator[None]:
        """Nothing is written, and what was to be written is lost with its connection."""
        place, file = self.product.place, sqlite_file(self.product.database_url)
        if place is not None:
            place.proxy.stop_passing()
            try:
                yield
            finally:
                place.proxy.reset()
                place.proxy.resume()
            return
        assert file is not None
        with contextlib.closing(sqlite3.connect(file, timeout=30, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    # The end

    def settle(self) -> None:
        """Let what is left be done, by any worker; then nothing is lost, doubled, broken or still claimed."""
        self.start(*NAMES)
        expire_leases(self.database)
        until("all is processed and delivered", lambda: not unsettled(self.database), every=0.1)
        rows = read_rows(self.database, self.product.teams, QUEUE)
        self._taken += Counter(rows.queue)
        findings = verdict(self.ledger, replace(rows, queue=self._taken), ROUTES)
        findings += broken_references(self.database)
        assert {finding.id for finding in findings if finding.what == UNLINKED} == self.unlinked
        assert not [finding for finding in findings if finding.what != UNLINKED]
        assert not self._leases()

    def times_delivered(self, job: str) -> int:
        """As often as `settle` has found it in the team's queue."""
        return self._taken[job]

    def _leases(self) -> list[str]:
        """Tables of leases that are not empty."""
        named = [name for name in inspect(self.database.engine).get_table_names() if name.endswith("_leases")]
        with self.database.read() as session:
            return [name for name in named if session.scalar(text(f"SELECT count(*) FROM {name}"))]


def api_of(waylink: Waylink) -> httpx.Client:
    """A client of the REST API, for operators."""
    made = waylink.run("token", "create", "test", "--scope", "operator", "--json")
    assert made.returncode == 0, made.stderr
    headers = {"authorization": f"Bearer {json.loads(made.stdout)['token']}"}
    return httpx.Client(base_url=f"{waylink.origin}/api/v1", headers=headers, timeout=PATIENCE, trust_env=False)


@contextlib.contextmanager
def held(*, sqlite: bool) -> Iterator[Held]:
    """A running one, on servers of its own."""
    with (
        product((), ROUTES, sqlite=sqlite, proxied=not sqlite) as running,
        proxied(running.waylink.sandbox_port) as nango,
        proxied(running.teams.port) as teams,
        contextlib.closing(connect(running.database_url)) as database,
    ):
        waylink = running.waylink
        running.web_ports = {"web-1": waylink.port}
        direct = confirming(waylink) | {"WAYLINK_TEAM_BROKER_URL": running.teams.url(1)}
        waylink.env |= direct | {
            "WAYLINK_NANGO_BASE_URL": f"http://127.0.0.1:{nango.port}",
            "WAYLINK_TEAM_BROKER_URL": running.teams.url(1).replace(f":{running.teams.port}/", f":{teams.port}/"),
        }
        with api_of(waylink) as api:
            stack = Held(running, database, nango, teams, api, direct)
            stack.start(*NAMES)
            yield stack
