"""The product as its users run it: `waylink` processes in a folder of their own, spoken to over HTTP and `--json`."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from app.db.engine import connect
from app.domain.signature import HEADER, sign
from tests.ports import free_port
from tests.waiting import PATIENCE, until

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY / "tests" / "data" / "nango" / "recorded" / "webhooks.jsonl"
COMMAND = [sys.executable, "-m", "app.cli"]


class Process:
    """A command that keeps running, in a process group of its own, with its output in a file."""

    def __init__(self, argv: Sequence[str], *, folder: Path, env: dict[str, str], log: Path) -> None:
        self.log = log
        self._seen: dict[int, str] = {}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def running(self) -> bool:
        return self._process.poll() is None

    def says(self, words: str, *, seconds: float = PATIENCE) -> None:
        def said() -> bool:
            assert words in self.output or self.running(), f"it ended before it said {words!r}:\n{self.output}"
            return words in self.output

        until(f"{words!r} in {self.log.name}", said, seconds=seconds)

    def child(self, ending: str) -> int | None:
        """The process below this one whose command line ends so, or whose program is called so."""
        for pid, command in self.descendants().items():
            if command.endswith(ending) or command.split(" ")[0].endswith(ending):
                return pid
        return None

    def descendants(self) -> dict[int, str]:
        """Everything below this process with its command line; each is remembered, so that no orphan goes unseen."""
        found = descendants(self.pid)
        self._seen.update(found)
        return found

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """It and what is below it keep everything and do nothing, for as long as this lasts."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)

    def ends(self, *, seconds: float = PATIENCE) -> int:
        return self._process.wait(seconds)

    def kill(self) -> None:
        """As `kill -9`."""
        self.descendants()
        self._process.kill()
        self._process.wait()

    def orphans(self) -> dict[int, str]:
        """Descendants of this process that are still alive: process id to command line."""
        alive = commands()
        return {pid: command for pid, command in self._seen.items() if pid != self.pid and alive.get(pid) == command}

    def close(self) -> None:
        """Stop it whatever its state, and everything below it."""
        self.descendants()
        if self.running():
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.ends()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pid in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Waylink:
    """One installation: a folder, ports, variables, and the processes that were started in it."""

    def __init__(self, **variables: str) -> None:
        # Not pytest's folder: a unix socket's path has to be short.
        self.folder = Path(tempfile.mkdtemp(prefix="wl-", dir="/tmp"))
        self.port, self.sandbox_port = free_port(), free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.data = self.folder / ".waylink"
        ours = {"WAYLINK_PORT": str(self.port), "WAYLINK_SANDBOX_PORT": str(self.sandbox_port)}
        ours["WAYLINK_CANARY_EVERY"] = "0"  # tests count all rows
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WAYLINK_", "NANGO_"))}
        self.env = inherited | ours | variables
        self.http = httpx.Client(base_url=self.origin, timeout=PATIENCE, trust_env=False)
        self.processes: list[Process] = []

    # Commands

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.env | variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def listing(self, noun: str, *options: str) -> list[dict[str, Any]]:
        done = self.run(noun, *options, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def show(self, noun: str, identity: str) -> dict[str, Any]:
        done = self.run(noun, "show", identity, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def spawn(self, *arguments: str, **variables: str) -> Process:
        """A command that keeps running."""
        log = self.folder / f"{len(self.processes)}-{arguments[0]}.log"
        process = Process([*COMMAND, *arguments], folder=self.folder, env=self.env | variables, log=log)
        self.processes.append(process)
        return process

    def up(self, *options: str) -> Process:
        """`waylink up`, once it answers and its workers take work."""
        process = self.spawn("up", *options)
        process.says("Waylink is up.")
        for name in ("events", "io"):
            until(f"{name} takes work", lambda kind=name: f"{kind}-{process.child(kind)}@" in process.output)
        return process

    # Webhooks and HTTP

    def post(
        self, content: bytes, key: str, *, environment: str = "", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """As Nango posts it."""
        path = f"/webhooks/nango/{environment}".removesuffix("/")
        sent = {"content-type": "application/json", HEADER: sign(content, key)} if headers is None else headers
        return self.http.post(path, content=content, headers=sent)

    def status(self, path: str) -> int:
        """The status of a GET on this path; 0 without an answer."""
        return status(self.port, path)

    def sandbox(self) -> "Sandbox":
        """The one that `waylink up` has started."""
        return Sandbox(**json.loads((self.data / "sandbox.json").read_text()))

    # The database, for what no command shows

    @property
    def database_url(self) -> str:
        return self.env.get("WAYLINK_DATABASE_URL", f"sqlite:///{self.data / 'waylink.db'}")

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run one statement on Waylink's own database; its rows."""
        with contextlib.closing(connect(self.database_url)) as database, database.write() as session:
            result = session.execute(text(statement), values)
            return [*result] if result.returns_rows else []

    def close(self) -> None:
        self.http.close()
        try:
            for process in reversed(self.processes):
                process.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class Sandbox:
    """A running sandbox: what an application asks Nango for, and the sandbox's own controls."""

    def __init__(self, *, base_url: str, api_key: str, signing_key: str, **_: str) -> None:
        self.base_url, self.api_key, self.signing_key = base_url, api_key, signing_key

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.api_key}"}
        answer = httpx.request(
            method, self.base_url + path, headers=headers, timeout=PATIENCE, trust_env=False, **options
        )
        return answer.raise_for_status().json()

    def register(self, *bodies: bytes) -> None:
        """Let the sandbox have the connections of these webhooks, as Nango has before it sends one."""
        headers = {"authorization": f"Bearer {self.api_key}", "content-type": "application/json"}
        with httpx.Client(base_url=self.base_url, headers=headers, timeout=PATIENCE, trust_env=False) as client:
            for body in bodies:
                client.post("/sandbox/connections", content=body).raise_for_status()


def creation(number: int, *, group: str = "batch", integration: str = "oauth2") -> bytes:
    """A new connection of its own user, as Nango announces it."""
    return json.dumps(
        {
            "authMode": "OAUTH2",
            "connectionId": str(uuid.uuid4()),
            "environment": "dev",
            "from": "nango",
            "operation": "creation",
            "provider": "local-oauth2",
            "providerConfigKey": integration,
            "success": True,
            "tags": {
                "end_user_id": f"{group}-{number}",
                "end_user_email": f"{group}-{number}@people.example",
                "organization_id": f"{group}-{number % 7}",
                "plan": "pro",
            },
            "type": "auth",
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


@contextlib.contextmanager
def installation(*, example: bool = False, config: str = "", **variables: str) -> Iterator[Waylink]:
    """An installation with a waylink.toml (the example's, or this text); stopped and removed at the end."""
    waylink = Waylink(**variables)
    try:
        content = (REPOSITORY / "examples" / "waylink.toml").read_text() if example else config
        if content:
            (waylink.folder / "waylink.toml").write_text(content)
        yield waylink
    finally:
        waylink.close()


def status(port: int, path: str = "/healthz") -> int:
    """The status that a web process on this loopback port answers; 0 without an answer."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE, trust_env=False).status_code
    except httpx.TransportError:
        return 0


def descendants(pid: int) -> dict[int, str]:
    """All processes below one."""
    below: dict[int, str] = {}
    everything = _processes()
    parents = {pid}
    while parents:
        parents = {pid for pid, (parent, _) in everything.items() if parent in parents and pid not in below}
        below.update({parent: everything[parent][1] for parent in parents})
    return below


def commands() -> dict[int, str]:
    return {pid: command for pid, (_, command) in _processes().items()}


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process that is not a zombie."""
    proc = Path("/proc/self/stat")
    if proc.exists():
        return dict(_of_proc())
    listed = subprocess.run(["ps", "-axo", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True)
    rows = (line.split(maxsplit=3) for line in listed.stdout.splitlines())
    return {int(row[0]): (int(row[1]), row[3]) for row in rows if len(row) == 4 and not row[2].startswith("Z")}


def _of_proc() -> Iterator[tuple[int, tuple[int, str]]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
            if state != "Z":
                yield int(folder.name), (int(parent), command)
