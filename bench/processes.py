"""Servers under measurement: started, waited for, ended, and what they cost by the kernel's own accounts (Linux)."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.servers import PostgresServer, Server

ROOT: Final = Path(__file__).parent.parent
START_WITHIN, STOP_WITHIN, RUN_WITHIN = 120.0, 30.0, 600.0  # seconds
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")  # seconds
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes


class DurablePostgres(PostgresServer):
    """A commit waits for the disk, as it does in production; the tests' server does without."""

    on_disk = True
    settings: ClassVar[Mapping[str, str]] = {"fsync": "on"}

    def argv(self) -> list[str]:
        return [*super().argv(), *(part for name, value in self.settings.items() for part in ("-c", f"{name}={value}"))]


class Failed(Exception):
    """A part of the suite could not be measured; the others go on."""


@contextmanager
def running(argv: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is stopped with SIGTERM at the end; its folder is the log's."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, cwd=log.parent, env=environment(variables), stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def serving(
    argv: Sequence[str], variables: Mapping[str, str], port: int, folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """The same for a server, from when it answers on `port`. Raises Failed with its last words."""
    log = folder / f"server-{port}.log"
    with running(argv, variables, log) as process:
        give_up = time.monotonic() + START_WITHIN
        while not _answers(port):
            if time.monotonic() > give_up or process.poll() is not None:
                raise Failed(f"did not start: {_last_words(log.read_text(errors='replace'))}")
            time.sleep(0.02)
        yield process


def python(*arguments: object) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", *(str(argument) for argument in arguments)]


def run(argv: Sequence[str], variables: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    """Run a command that ends by itself; its output. Raises Failed with the last lines of it."""
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=environment(variables or {}),
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_WITHIN,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{argv[2:4]}: not done within {RUN_WITHIN:.0f} s") from None
    if done.returncode:
        raise Failed(f"{argv[2:4]}: {_last_words(done.stderr)}")
    return done.stdout


def run_json(argv: Sequence[str], variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object in the last line that a command prints."""
    answer: dict[str, Any] = json.loads(run(argv, variables).strip().rpartition("\n")[2])
    return answer


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment variables without the developer's own WAYLINK_*, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAYLINK_", "NANGO_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


@contextmanager
def repeating(act: Callable[[], object], *, every: float) -> Iterator[None]:
    """Call `act` from a thread every so many seconds, until the block ends."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(every):
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def pid_of(server: Server) -> int:
    """The pid of a server that runs."""
    assert server._process is not None
    return server._process.pid


def cpu_seconds(pids: Collection[int]) -> float:
    """Processor time of these processes and everything below them, children that have ended included."""
    return sum(ticks_in(stat) for stat in _stats(pids)) * _TICK


def ticks_in(stat: str) -> int:
    """`utime`, `stime`, `cutime` and `cstime` of a process's `stat`."""
    return sum(map(int, _fields(stat)[11:15]))


def steady_cpu_seconds(pids: Collection[int]) -> float:
    """The same once it has stopped growing: what is done after the answers belongs to the requests, too."""
    before = cpu_seconds(pids)
    give_up = time.monotonic() + 3
    while time.monotonic() < give_up:
        time.sleep(0.1)
        now = cpu_seconds(pids)
        if now - before <= _TICK:
            return now
        before = now
    return before


def resident_bytes(pid: int) -> int:
    """Memory of this process and everything below it; shared pages count in each."""
    return sum(int(_fields(stat)[21]) for stat in _stats([pid])) * _PAGE


def _fields(stat: str) -> list[str]:
    """From the third on; the second, the process's name, may hold blanks."""
    return stat.rpartition(")")[2].split()


def _stats(pids: Collection[int]) -> Iterator[str]:
    """The `stat` of each of these processes and of everything below them."""
    todo, seen = list(pids), set()
    while todo:
        if (pid := todo.pop()) in seen:
            continue
        seen.add(pid)
        folder = Path(f"/proc/{pid}")
        try:
            stat = (folder / "stat").read_text()
            for thread in (folder / "task").iterdir():
                todo += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended meanwhile
            continue
        yield stat


def _last_words(output: str) -> str:
    """The last line, which names the error; all of it goes to standard error."""
    print(output.strip(), file=sys.stderr)
    return output.strip().rpartition("\n")[2]


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
