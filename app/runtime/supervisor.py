"""Supervisor of child processes, for `waylink up` and a `waylink web` with several: ordered start, restart, common
stop.

On Linux the kernel kills a child as soon as the supervisor is gone, however it ended. Elsewhere a supervisor ended by
`kill -9` leaves its children running; they have to be stopped by hand.
"""

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Protocol

from app.errors import ConfigurationError, Problem

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FIRST_DELAY, LONGEST_DELAY, HEALTHY_AFTER = 1.0, 30.0, 60.0  # seconds
READY_WITHIN, READY_POLL = 30.0, 0.05
LAST_CHANCE = 2.0  # seconds for a broker to end by itself when the children before it have used up the grace

# Runs in the child before its program. A preexec_fn could deadlock, because the supervisor has threads. SIGKILL and not
# SIGTERM: a broker still shutting down would later remove the socket that its successor has just opened.
EXEC = """
import ctypes, os, signal, sys
supervisor, argv = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != supervisor:
        sys.exit(1)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    sys.exit(f"cannot start {argv[0]}: {error.strerror}")
"""


class Log(Protocol):
    """The methods of a structlog logger that the supervisor uses."""

    def info(self, event: str, **facts: object) -> object: ...
    def warning(self, event: str, **facts: object) -> object: ...


@dataclass(frozen=True, slots=True)
class Child:
    """One process. `env` is added to the supervisor's own environment.

    With `ready`, the children after it start once it returns true, and it is stopped only after they have ended.
    `inherits`: file descriptors that it gets. Its output is passed on with its name in front, unless `plain`.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    inherits: Sequence[int] = ()
    plain: bool = False


class _Running:
    """A child's current process, the thread that passes on its output, and the time of its next start."""

    def __init__(self, child: Child, prefix: str) -> None:
        self.child, self.prefix = child, prefix
        self.process: subprocess.Popen[bytes] | None = None
        self.pump: threading.Thread | None = None
        self.started_at, self.restart_at, self.delay = 0.0, 0.0, FIRST_DELAY

    def start(self) -> None:
        """Start the process. Only from the main thread: the kernel takes the end of the starting thread for the
        parent's death.
        """
        self.process = subprocess.Popen(  # noqa: S603 - the program is ours
            [sys.executable, "-I", "-S", "-c", EXEC, str(os.getpid()), *self.child.argv],
            env={"PYTHONUNBUFFERED": "1", **os.environ, **self.child.env},
            stdin=subprocess.DEVNULL,
            stdout=None if self.child.plain else subprocess.PIPE,
            stderr=None if self.child.plain else subprocess.STDOUT,
            pass_fds=self.child.inherits,
            start_new_session=True,  # a terminal's Ctrl-C and hang-up are for the supervisor alone
        )
        self.started_at = time.monotonic()
        if self.process.stdout is not None:
            self.pump = threading.Thread(target=_pass_on, args=(self.process.stdout, self.prefix), daemon=True)
            self.pump.start()

    def reap(self) -> int | None:
        """Exit code of a process that has just ended; None while it runs, or when none was started."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.kill_group()  # processes that the child started and left running
        if self.pump is not None:
            self.pump.join(timeout=1)
        self.process = None
        return code

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill_group(self) -> None:
        # macOS answers PermissionError for a group of which only zombies are left.
        with suppress(ProcessLookupError, PermissionError):
            if self.process is not None:
                os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Keeps children running until SIGINT, SIGTERM or SIGHUP; a second signal kills those that still run.

    grace: seconds for the children to end by themselves. on_started: called once when all of them are up.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        log: Log,
        grace: float = 25.0,
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        width = max((len(child.name) for child in children), default=0)
        self._all = [_Running(child, f"{child.name:<{width}} | ") for child in children]
        self._log, self._grace, self._on_started = log, grace, on_started
        self._begun: list[_Running] = []
        self._stops = 0
        self._wake_up = -1

    def run(self) -> int:
        """Run in the main thread until a signal. Returns 0, or 1 when a child ended before it was ready."""
        with self._signals():
            try:
                failed = not all(self._begin(running) for running in self._all)
                if not failed and not self._stops:
                    self._on_started()
                while not failed and not self._stops:
                    self._wait(self._tend())
            finally:
                self._stop()
        return int(failed)

    def _begin(self, running: _Running) -> bool:
        if self._stops:
            return True
        running.start()
        self._begun.append(running)
        ready, give_up = running.child.ready, time.monotonic() + READY_WITHIN
        while ready and not self._stops and not ready():
            if running.process is None or running.process.poll() is not None:
                code = running.reap()
                self._log.warning("a process ended before it was ready", child=running.child.name, exit=_exit(code))
                return False
            if time.monotonic() > give_up:
                self._log.warning("a process is slow to get ready", child=running.child.name, seconds=READY_WITHIN)
                break
            self._tend(but=running)
            self._wait(READY_POLL)
        return True

    def _tend(self, but: _Running | None = None) -> float | None:
        """Restart due children and log dead ones. Returns seconds until the next restart, None when there is none."""
        now = time.monotonic()
        due = []
        for running in self._begun:
            if running is but:
                continue
            if (code := running.reap()) is not None:
                healthy = now - running.started_at >= HEALTHY_AFTER
                delay = FIRST_DELAY if healthy else running.delay
                running.restart_at, running.delay = now + delay, min(delay * 2, LONGEST_DELAY)
                name = running.child.name
                self._log.warning("a process died", child=name, exit=_exit(code), restart_in_seconds=delay)
            if running.process is None and running.restart_at <= now:
                running.start()
                self._log.info("process restarted", child=running.child.name)
            if running.process is None:
                due.append(running.restart_at - now)
        return min(due, default=None)

    def _stop(self) -> None:
        """Stop in reverse order and in parallel, but a child with `ready` only after the children that depend on it."""
        deadline, at_once = time.monotonic() + self._grace, 2 if self._stops else 1
        wave: list[_Running] = []
        for running in reversed(self._begun):
            if running.child.ready:
                self._end(wave, deadline, at_once)
                wave = []
            wave.append(running)
        self._end(wave, deadline, at_once)

    def _end(self, wave: Sequence[_Running], deadline: float, at_once: int) -> None:
        deadline = max(deadline, time.monotonic() + min(LAST_CHANCE, self._grace))
        for running in wave:
            running.terminate()
        left = [running for running in wave if running.process is not None]
        while left and self._stops < at_once and (seconds := deadline - time.monotonic()) > 0:
            left = [running for running in left if running.reap() is None]
            if left:
                self._wait(seconds)
        for running in left:
            self._log.warning("a process did not end by itself and is killed", child=running.child.name)
            running.kill_group()
            if running.process is not None:
                running.process.wait()
            running.reap()

    def _wait(self, seconds: float | None) -> None:
        """Wait for a signal, the end of a child included, for at most `seconds` (None: without limit)."""
        if select.select([self._wake_up], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._wake_up, 4096)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, _frame: FrameType | None) -> None:
            self._stops += number in STOP_SIGNALS

        self._wake_up, written = os.pipe()
        os.set_blocking(self._wake_up, False)
        os.set_blocking(written, False)
        # `nohup waylink up` has SIGHUP ignored on purpose.
        deaf = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        before = {number: signal.signal(number, note) for number in {*STOP_SIGNALS, signal.SIGCHLD} - deaf}
        fd_before = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake_up)
            os.close(written)


@contextmanager
def take_lock(data_dir: Path) -> Iterator[None]:
    """Lock the data folder against a second `waylink up`. Raises ConfigurationError when it is locked.

    The kernel releases the lock when the process ends, however it ends.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (data_dir / "up.lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            what = f"another `waylink up` (process {holder}) uses {data_dir}: stop it, or take another folder"
            raise ConfigurationError([Problem("WAYLINK_DATA_DIR", what, "./.waylink-2")]) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _pass_on(output: IO[bytes], prefix: str) -> None:
    with output:
        for line in output:
            # Even when our own output is closed, the child's pipe is drained, or the child would block.
            with suppress(OSError, ValueError):
                sys.stdout.buffer.write(prefix.encode() + line.removesuffix(b"\n") + b"\n")
                sys.stdout.buffer.flush()


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"signal {names.get(-code, -code)}"
    return f"exit code {code}"
