"""Faults of a running installation, and when `waylink status` and `GET /api/v1/status` say so and take it back.

Real processes over TCP: two web processes, a worker of each kind, Beat and the sandbox, on PostgreSQL, with servers,
an internal and a team broker, and endpoints of their own. Faults of one round begin together, as none hides another.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from app.domain.signature import HEADER, sign
from app.sealing import new_key
from bench.load import KEY, body
from bench.product import Product, product
from tests.acceptance.harness import Waylink, installation
from tests.integration.delivery.endpoints import Endpoints, endpoints
from tests.ports import free_port
from tests.rabbit import RabbitServer
from tests.servers import SmallDiskPostgres, mount_memory, unmount
from tests.waiting import until

NO_ANSWER: Final = "no answer"  # in the place of a check's id: of an API whose processes all stand still
HOOKS: Final = ("gone", "broken", "hanging")
RABBITMQ, RABBITMQ_QUEUE = "rabbitmq", "team.bench.rabbitmq"
EVERY, WITHIN = 0.3, 120.0  # seconds: between two looks; after which a look is given up


@dataclass
class Watched:
    """An installation whose status is looked at, by its command and by the web process on its first port."""

    waylink: Waylink
    token: str

    def said_by_api(self) -> dict[str, str]:
        """The red checks, by id, with value and cause."""
        url = f"{self.waylink.origin}/api/v1/status"
        headers = {"authorization": f"Bearer {self.token}"}
        try:
            answer = httpx.get(url, headers=headers, timeout=10, trust_env=False)
        except httpx.TransportError:
            return {NO_ANSWER: ""}
        if answer.status_code == 503:
            return {"database": answer.text} if "database_away" in answer.text else {answer.text: ""}
        return red(answer.raise_for_status().json()["data"])

    def said_by_command(self) -> dict[str, str]:
        done = self.waylink.run("status", "--json")
        found = red(json.loads(done.stdout))
        assert done.returncode == (1 if found else 0), done.stderr
        return found


@dataclass
class Installation(Watched):
    """The running product, and the endpoints of its teams."""

    product: Product
    hooks: Endpoints
    folder: Path
    more: dict[str, Any] = field(default_factory=dict)  # what a fault keeps for its end

    def post(self, *, key: str = KEY, plan: str = "pro", count: int = 1) -> list[int]:
        """Webhooks of new connections, which the sandbox has; the answers' statuses."""
        bodies = [body(str(uuid.uuid4()), tags={"end_user_id": f"u{uuid.uuid4()}", "plan": plan}) for _ in range(count)]
        self.product.sandbox.register(*bodies)
        headers = [{"content-type": "application/json", HEADER: sign(one, key)} for one in bodies]
        with httpx.Client(base_url=self.waylink.origin, timeout=30, trust_env=False) as client:
            return [
                client.post("/webhooks/nango", content=one, headers=signed).status_code
                for one, signed in zip(bodies, headers, strict=True)
            ]

    def freeze(self, *names: str) -> None:
        for name in names:
            os.killpg(self.product.processes[name].pid, signal.SIGSTOP)

    def thaw(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.product.processes[name].pid, signal.SIGCONT)

    def kill(self, name: str) -> None:
        self.product.processes[name].kill()

    @property
    def small_disk(self) -> SmallDiskPostgres | None:
        """The database's server, where its disk can be filled."""
        server = self.product.postgres
        return server if isinstance(server, SmallDiskPostgres) and server.disk is not None else None

    def start(self, name: str, **variables: str) -> None:
        self.product.start(name, **variables)

    def restart(self, name: str, **variables: str) -> None:
        self.stop(name)
        self.start(name, **variables)

    def stop(self, name: str) -> None:
        """An orderly end."""
        process = self.product.processes.pop(name)
        process.send(signal.SIGTERM)
        process.ends()

    def patched(self, code: str) -> dict[str, str]:
        """Variables of a process that runs this code first."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": os.pathsep.join((str(folder), *filter(None, [os.environ.get("PYTHONPATH")])))}

    def run(self, *arguments: str) -> None:
        done = self.waylink.run(*arguments)
        assert done.returncode == 0, done.stderr

    def process_id(self, name: str) -> str:
        """The subject of a process's check."""
        kind = name.partition("-")[0]
        return f"process:{kind}@{socket.gethostname()}/{self.product.processes[name].pid}"


def red(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {row["id"]: f"{row['value']}: {row['cause']} -> {row['repair']}" for row in rows if row["level"] == "red"}


Act = Callable[[Any], object]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """check: the id that has to be red meanwhile. begin: it may return its moment, where that is not its call.

    repair: what ends it, in words. success: waits until work succeeds for the first time after it, where that is later
    than the repair.
    """

    name: str
    check: str | Callable[[Any], str]
    begin: Act
    end: Act
    repair: str
    success: Act | None = None
    api: bool = True  # whether a web process is left that answers

    def check_of(self, at: Watched) -> str:
        return self.check if isinstance(self.check, str) else self.check(at)


@dataclass(frozen=True)
class Seen:
    """Seconds: from the beginning until the API and the command say red by the check's name; from the first success
    after the repair until they do not.
    """

    fault: Fault
    check: str
    red_by_api: float
    red_by_command: float
    green_by_api: float
    green_by_command: float
    said: str

    def line(self) -> str:
        seconds = (self.red_by_api, self.red_by_command, self.green_by_api, self.green_by_command)
        return f"{self.fault.name}: {self.check} {' '.join(f'{one:.1f}' for one in seconds)} {self.said}"


@dataclass
class _Look:
    """Looks again and again until each check is said to be red, or is so no more; or until WITHIN has passed."""

    look: Callable[[], dict[str, str]]
    checks: Mapping[str, str]  # by fault, the id
    red: bool
    at: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        give_up = time.monotonic() + WITHIN
        while len(self.at) < len(self.checks) and time.monotonic() < give_up:
            self.last = self.look()
            now = time.monotonic()
            for fault, check in self.checks.items():
                if fault not in self.at and (check in self.last) is self.red:
                    self.at[fault], self.said[fault] = now, self.last.get(check, "")
            time.sleep(EVERY)


def _looked(at: Watched, faults: Sequence[Fault], checks: Mapping[str, str], *, red: bool) -> list[_Look]:
    """Look by API and command side by side. Raises AssertionError with what was said instead."""
    of_api = {fault.name: checks[fault.name] if fault.api else NO_ANSWER for fault in faults}
    looks = [_Look(at.said_by_api, of_api, red), _Look(at.said_by_command, checks, red)]
    threads = [threading.Thread(target=look.run) for look in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for who, look in zip(("API", "command"), looks, strict=True):
        missing = {fault: check for fault, check in look.checks.items() if fault not in look.at}
        state = "red" if red else "well again"
        assert not missing, f"not {state} by the {who} within {WITHIN:.0f} s: {missing}; red is {look.last}"
    return looks


def round_of(at: Watched, faults: Sequence[Fault]) -> list[Seen]:
    """Let faults begin together, wait until each is said, end them, and wait until none is said any more."""
    began, ended, checks = {}, {}, {}
    with contextlib.ExitStack() as stack:
        for fault in faults:
            checks[fault.name] = fault.check_of(at)
            began[fault.name] = time.monotonic()
            moment = fault.begin(at)
            if isinstance(moment, float):
                began[fault.name] = moment
            stack.callback(fault.end, at)
        reds = _looked(at, faults, checks, red=True)

    def succeeds(fault: Fault) -> None:
        if fault.success is not None:
            fault.success(at)
        ended[fault.name] = time.monotonic()

    waits = [threading.Thread(target=succeeds, args=(fault,)) for fault in faults]
    for wait in waits:
        wait.start()
    greens = _looked(at, faults, checks, red=False)
    for wait in waits:
        wait.join()
    return [
        Seen(
            fault,
            checks[fault.name],
            *(look.at[fault.name] - began[fault.name] for look in reds),
            *(max(0.0, look.at[fault.name] - ended[fault.name]) for look in greens),
            said=reds[1].said[fault.name],
        )
        for fault in faults
    ]


@contextlib.contextmanager
def installed(
    folder: Path, *, webs: Sequence[str] = ("web-1", "web-2"), config: str = "", **variables: str
) -> Iterator[Installation]:
    """An installation on which nothing is red. Its PostgreSQL has a small disk of its own where one may be mounted.

    config: further lines of its waylink.toml.
    """
    with endpoints() as hooks:
        key = new_key()
        names = ("sandbox", *webs, "events-1", "io-1", "beat")
        with product(
            names,
            {"import": ["connection.created"]},
            config=_hooks(hooks.url) + config,
            proxied=True,
            database=SmallDiskPostgres,
            WAYLINK_SECRET_KEY=key,
            WAYLINK_ALLOWED_DESTINATION_RANGES="127.0.0.0/8",
            WAYLINK_CANARY_EVERY="15s",
            **variables,
        ) as running:
            running.web_ports = {**running.web_ports, "web-3": free_port(), "web-4": free_port()}
            made = running.waylink.run("token", "create", "status", "--scope", "viewer", "--json")
            assert made.returncode == 0, made.stderr
            at = Installation(running.waylink, json.loads(made.stdout)["token"], running, hooks, folder)
            at.post()
            is_well(at)
            yield at


def is_well(at: Watched) -> None:
    """Wait until nothing at all is red, by the API and then by the command."""
    found: dict[str, dict[str, str]] = {}
    for who, look in (("the API", at.said_by_api), ("the command", at.said_by_command)):

        def is_green(who: str = who, look: Callable[[], dict[str, str]] = look) -> bool:
            found[who] = look()
            return not found[who]

        try:
            until(f"nothing is red by {who}", is_green, every=EVERY, seconds=WITHIN)
        except AssertionError as late:
            raise AssertionError(f"{late}; red is {found[who]}") from None


@contextlib.contextmanager
def with_rabbitmq(folder: Path) -> Iterator[Installation]:
    """An installation with a team whose own broker is RabbitMQ, which takes connections of a plan of that name."""
    config = (
        f'\n[teams.bench.destinations.{RABBITMQ}]\nkind = "celery"\nqueue = "{RABBITMQ_QUEUE}"\n'
        f'broker_url_env = "BROKER_OF_BENCH"\n{_route(RABBITMQ)}'
    )
    with contextlib.closing(RabbitServer()) as server:
        server.start()
        with installed(folder, webs=["web-1"], config=config, BROKER_OF_BENCH=server.url()) as at:
            at.more[RABBITMQ] = server
            yield at


@contextlib.contextmanager
def on_a_small_disk(broker_url: str) -> Iterator[Watched | None]:
    """A web process with its SQLite database on a disk of 16 MB of its own; None where nothing may be mounted."""
    variables = {"WAYLINK_BROKER_URL": broker_url, "WAYLINK_NANGO_SIGNING_KEYS": KEY}
    with installation(**variables) as waylink:
        waylink.data.mkdir()
        if not mount_memory(waylink.data, megabytes=16):
            yield None
            return
        try:
            assert waylink.run("migrate").returncode == 0
            made = waylink.run("token", "create", "status", "--scope", "viewer", "--json")
            web = waylink.spawn("web")
            until("it is ready", lambda: waylink.status("/readyz") == 200, every=EVERY)
            yield Watched(waylink, json.loads(made.stdout)["token"])
            web.close()
        finally:
            unmount(waylink.data)


def _hooks(url: str) -> str:
    """Destinations over HTTP, each with a route for connections of a plan that is called like it."""
    parts = []
    for name in HOOKS:
        path = "hang/hanging" if name == "hanging" else f"200/{name}"
        parts.append(f'\n[teams.bench.destinations.{name}]\nkind = "http"\nurl = "{url}/{path}"\n')
    return "".join([*parts, *map(_route, HOOKS)])


def _route(name: str) -> str:
    """A route of the plan to the destination of that name."""
    pattern = json.dumps({"type": ["connection.created"], "tags": {"plan": [name]}})
    return (
        f'\n[[routes]]\nname = "{name}"\nteam = "bench"\ndestination = "{name}"\njob = "bench.{name}"\n'
        f"pattern = '{pattern}'\n"
    )
