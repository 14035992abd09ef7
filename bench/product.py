"""The whole product on private servers: the processes that production has, kept running as a process manager does."""

import math
import shutil
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench.load import KEY
from bench.processes import DurablePostgres
from tests.acceptance.harness import Process, Sandbox, Waylink, installation, status
from tests.certificates import Tls
from tests.faults import Place
from tests.ports import free_port
from tests.proxy import proxied as proxy_before
from tests.servers import PostgresServer, ValkeyServer
from tests.waiting import until

API_KEY: Final = "4d70f328-6b39-451e-b92f-21969323b448"  # of the sandbox: Nango's are UUIDs
TEAM: Final = "bench"
QUEUE: Final = "team.bench.jobs"
LOOK_EVERY, PAUSE = 0.1, 0.5  # seconds: how soon a dead process is seen, how long until it is started again


@dataclass(slots=True)
class Product:
    """A running installation. Its internal broker is its own; the team's is a server apart.

    `web_ports`: where each web process listens, by its name.
    """

    waylink: Waylink
    broker: ValkeyServer
    teams: ValkeyServer
    postgres: PostgresServer | None
    place: Place | None  # the database behind a proxy, where there is one
    web_ports: Mapping[str, int]
    processes: dict[str, Process] = field(default_factory=dict)
    deaths: int = 0  # processes that ended without having been killed
    _back_at: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sandbox(self) -> Sandbox:
        url = f"http://127.0.0.1:{self.waylink.sandbox_port}"
        return Sandbox(base_url=url, api_key=API_KEY, signing_key=KEY)

    @property
    def database_url(self) -> str:
        """Past the proxy."""
        return self.place.direct_url if self.place else self.waylink.env["WAYLINK_DATABASE_URL"]

    def start(self, name: str, **variables: str) -> None:
        """`beat`, `sandbox`, or a kind with a number, as in `web-1` and `events-2`. `variables`: of this process."""
        kind = name.partition("-")[0]
        port = {"WAYLINK_PORT": str(self.web_ports[name])} if kind == "web" else {}
        command = ("worker", kind) if kind in {"events", "io"} else (kind,)
        self.processes[name] = self.waylink.spawn(*command, **port, **variables)

    def kill(self, name: str, *, away: float) -> None:
        """`kill -9`; it is started again `away` seconds later."""
        with self._lock:
            self._back_at[name] = time.monotonic() + away
            process = self.processes[name]
            if process.running():
                process.send(signal.SIGKILL)  # at once: a search for its children first would let it end its work
            process.kill()

    @contextmanager
    def without(self, names: Collection[str]) -> Iterator[None]:
        """These are ended by `kill -9`, and started again at the end of the block."""
        for name in names:
            self.kill(name, away=math.inf)
        try:
            yield
        finally:
            with self._lock:
                self._back_at |= dict.fromkeys(names, 0.0)

    def ready(self) -> None:
        """Returns once webhooks are taken and every worker takes work."""
        for name, port in self.web_ports.items():
            until(f"{name} is ready", partial(_answers_well, port))
        for name, process in self.processes.items():
            kind = name.partition("-")[0]
            if kind in {"events", "io"}:
                process.says(f"{kind}-{process.pid}@")
            elif kind == "sandbox":
                process.says("Nango sandbox at")

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Restart processes that end meanwhile."""
        done = threading.Event()
        thread = threading.Thread(target=self._keep_up, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def keep_logs(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for process in self.waylink.processes:
            shutil.copy2(process.log, folder)

    def stop(self) -> None:
        """Kill all processes: no state of theirs is needed any more, so an orderly end would only take time."""
        for process in self.processes.values():
            if process.running():
                process.kill()

    def _keep_up(self, done: threading.Event) -> None:
        while not done.wait(LOOK_EVERY):
            with self._lock:
                for name, process in list(self.processes.items()):
                    self._revive(name, process)

    def _revive(self, name: str, process: Process) -> None:
        if process.running():
            self._back_at.pop(name, None)
        elif name not in self._back_at:
            # A process that starts while the database is away ends with an error.
            self.deaths += 1
            self._back_at[name] = time.monotonic() + PAUSE
        elif time.monotonic() >= self._back_at[name]:
            del self._back_at[name]
            self.start(name)


def configuration(routes: Mapping[str, Sequence[str]]) -> str:
    """A waylink.toml with one team; `routes` gives the event types that each route matches."""
    head = f'[teams.{TEAM}.destinations.jobs]\nkind = "celery"\nqueue = "{QUEUE}"\n'
    parts = []
    for name, types in routes.items():
        listed = ", ".join(f'"{type_}"' for type_ in types)
        parts.append(
            f'\n[[routes]]\nname = "{name}"\nteam = "{TEAM}"\ndestination = "jobs"\n'
            f'job = "{TEAM}.{name}"\npattern = \'{{"type": [{listed}]}}\'\n'
        )
    return head + "".join(parts)


@contextmanager
def product(
    names: Sequence[str],
    routes: Mapping[str, Sequence[str]],
    *,
    sqlite: bool = False,
    tls: Tls | None = None,
    proxied: bool = False,
    database: type[PostgresServer] = DurablePostgres,
    config: str = "",
    **variables: str,
) -> Iterator[Product]:
    """The product on fresh servers with these processes, ready; with a process `sandbox` it confirms there.

    `config` is added to its waylink.toml. With a certificate all servers are reached by TLS. `proxied`: PostgreSQL is
    behind a proxy, which can fail as networks do. `database`: the kind of its server.
    """
    with ExitStack() as stack:
        broker, teams = ValkeyServer(tls), ValkeyServer(tls)
        postgres = None if sqlite else database(tls)
        for server in (broker, teams, *([postgres] if postgres else [])):
            stack.callback(server.close)
            server.start()
        waylink = stack.enter_context(installation(config=configuration(routes) + config))
        url, place = f"sqlite:///{waylink.data}/waylink.db", None
        if postgres:
            url = postgres.create_database()
        if postgres and proxied:
            place = Place(postgres, stack.enter_context(proxy_before(postgres.port)), url)
            url = place.url
        waylink.env |= {
            "WAYLINK_DATABASE_URL": url,
            "WAYLINK_BROKER_URL": broker.url(0),
            "WAYLINK_TEAM_BROKER_URL": teams.url(1),
            "WAYLINK_NANGO_SIGNING_KEYS": KEY,
            **(confirming(waylink) if "sandbox" in names else {}),
            **variables,
        }
        webs = [name for name in names if name.partition("-")[0] == "web"]
        ports = {name: free_port() if number else waylink.port for number, name in enumerate(webs)}
        running = Product(waylink, broker, teams, postgres, place, ports)
        stack.callback(running.stop)
        migrated = waylink.run("migrate")
        if migrated.returncode:
            raise RuntimeError(f"migrate: {migrated.stderr}")
        for name in names:
            running.start(name)
        running.ready()
        yield running


def _answers_well(port: int) -> bool:
    return status(port, "/readyz") == 200


def confirming(waylink: Waylink) -> dict[str, str]:
    """Variables by which each event is confirmed at the sandbox."""
    return {
        "WAYLINK_NANGO_BASE_URL": f"http://127.0.0.1:{waylink.sandbox_port}",
        "WAYLINK_NANGO_API_KEY": API_KEY,
        "WAYLINK_SANDBOX_API_KEY": API_KEY,
        "WAYLINK_SANDBOX_SIGNING_KEY": KEY,
    }
