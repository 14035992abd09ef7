import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.runtime.supervisor import take_lock
from tests.waiting import PATIENCE, until

PRELUDE = """
import signal
import sys
from pathlib import Path
from app.runtime.supervisor import Child, Supervisor

class Log:
    def info(self, event, **facts):
        print("LOG", event, facts, flush=True)
    warning = info

def python(name, code, **more):
    return Child(name, [sys.executable, "-u", "-c", code], **more)

SLEEPER = "import os, time; print('pid', os.getpid()); time.sleep(60)"
POLITE = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(print('bye'))); print('up'); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, lambda *_: print('told')); print('up'); time.sleep(60)"

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, which may have started the tests, ignores it

def main(*children, **options):
    sys.exit(Supervisor(children, log=Log(), **options).run())
"""


class Run:
    """A supervisor in a process of its own, and the lines it has printed."""

    def __init__(self, body: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + body], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.seen: list[str] = []
        self.pids: set[int] = set()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, pattern: str) -> re.Match[str]:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._lines.get(timeout=max(give_up - time.monotonic(), 0))
            except queue.Empty:
                line = None
            assert line is not None, f"no {pattern!r} in {self.seen}"
            self.seen.append(line)
            if match := re.search(pattern, line):
                return match

    def pid(self, name: str) -> int:
        pid = int(self.until(rf"^(?:{name}) +\| pid (\d+)").group(1))
        self.pids.add(pid)
        return pid

    def ends(self) -> int:
        code = self.process.wait(PATIENCE)
        while (line := self._lines.get(timeout=PATIENCE)) is not None:
            self.seen.append(line)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pid in filter(alive, self.pids):
            os.kill(pid, signal.SIGKILL)

    def _read(self) -> None:
        with self.process.stdout as output:
            for line in output:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


@pytest.fixture
def start() -> Iterator[Callable[[str], Run]]:
    runs: list[Run] = []

    def begin(body: str) -> Run:
        runs.append(Run(body))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


def alive(pid: int) -> bool:
    """A zombie that its new parent has not collected yet does not count."""
    try:
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


def test_a_killed_child_is_restarted_and_the_others_are_left_alone(start: Callable[[str], Run]) -> None:
    run = start("main(python('web', SLEEPER), python('beat', SLEEPER))")
    pids = {run.pid("web|beat"), run.pid("web|beat")}
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    assert "'signal SIGKILL'" in run.until("LOG a process died").string
    run.until("LOG process restarted")
    assert run.pid("web|beat") not in pids
    assert alive((pids - {victim}).pop())


def test_a_child_that_keeps_dying_is_restarted_ever_more_slowly(start: Callable[[str], Run]) -> None:
    run = start("main(python('web', 'raise SystemExit(3)'))")
    first, second = run.until("LOG a process died").string, run.until("LOG a process died").string
    assert "'exit code 3'" in first
    assert "'restart_in_seconds': 1.0" in first
    assert "'restart_in_seconds': 2.0" in second


def test_a_program_that_cannot_be_started_says_so(start: Callable[[str], Run]) -> None:
    run = start("main(Child('web', ['/no/such/program']))")
    run.until(r"^web \| cannot start /no/such/program: No such file or directory$")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_signal_ends_all_children_in_order_and_the_supervisor_with_0(
    start: Callable[[str], Run], number: signal.Signals
) -> None:
    run = start("main(python('broker', POLITE, ready=lambda: True), python('web', POLITE), python('beat', POLITE))")
    for _ in range(3):
        run.until("up$")
    run.process.send_signal(number)
    assert run.ends() == 0
    byes = [line.split()[0] for line in run.seen if line.endswith("bye")]
    assert sorted(byes[:2]) == ["beat", "web"]
    assert byes[2:] == ["broker"]


def test_a_terminals_ctrl_c_reaches_only_the_supervisor(start: Callable[[str], Run]) -> None:
    run = start("main(python('web', SLEEPER))")
    pid = run.pid("web")
    assert os.getsid(pid) == pid
    assert os.getpgid(pid) == pid


def test_a_child_that_does_not_end_is_killed_after_the_grace_with_what_it_started(start: Callable[[str], Run]) -> None:
    deaf = "import subprocess; print('pid', subprocess.Popen(['sleep', '60']).pid);"
    run = start(f"main(python('web', {deaf!r} + DEAF), grace=0.2)")
    grandchild = run.pid("web")
    run.until("up$")
    run.process.terminate()
    assert run.ends() == 0
    assert any("did not end" in line for line in run.seen)
    until("its child is gone, too", lambda: not alive(grandchild))


def test_a_second_ctrl_c_hurries(start: Callable[[str], Run]) -> None:
    run = start("main(python('web', DEAF), grace=3600)")
    run.until("up$")
    run.process.send_signal(signal.SIGINT)
    run.until("told$")
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    assert run.ends() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_kill_9_of_the_supervisor_takes_the_children_along(start: Callable[[str], Run]) -> None:
    run = start("main(python('web', SLEEPER), python('beat', SLEEPER))")
    pids = [run.pid("web|beat"), run.pid("web|beat")]
    run.process.kill()
    run.process.wait()
    until("all are gone", lambda: not any(map(alive, pids)))


def test_output_is_passed_on_line_by_line_with_the_childs_name(start: Callable[[str], Run]) -> None:
    speech = "import os, sys; print('out'); print('err', file=sys.stderr); print(os.environ['TOPIC'], end='')"
    run = start(f"main(python('web', {speech!r}, env={{'TOPIC': 'no newline'}}), python('broker', SLEEPER))")
    run.until(r"^web    \| out$")
    run.until(r"^web    \| err$")
    run.until(r"^web    \| no newline$")


def test_children_start_in_order_each_when_the_one_before_is_ready(start: Callable[[str], Run], tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    slow = f"import pathlib, time; time.sleep(0.3); print('now'); pathlib.Path({str(flag)!r}).touch(); time.sleep(60)"
    run = start(
        f"main(python('broker', {slow!r}, ready=Path({str(flag)!r}).exists), python('web', SLEEPER),"
        " on_started=lambda: print('LOG started', flush=True))"
    )
    run.until("LOG started")
    run.pid("web")
    assert "broker | now" in run.seen


def test_a_child_that_ends_before_it_is_ready_ends_everything_with_1(start: Callable[[str], Run]) -> None:
    run = start("main(python('web', POLITE), python('broker', 'raise SystemExit(2)', ready=lambda: False))")
    assert run.ends() == 1
    assert any("before it was ready" in line and "exit code 2" in line for line in run.seen)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_restarts_leak_no_descriptor_and_no_zombie(start: Callable[[str], Run]) -> None:
    run = start(
        "from app.runtime import supervisor; supervisor.FIRST_DELAY = supervisor.LONGEST_DELAY = 0.02\n"
        "main(python('web', 'pass'), python('beat', SLEEPER))"
    )
    run.pid("beat")
    facts = Path(f"/proc/{run.process.pid}")

    def restarts(count: int) -> tuple[int, int]:
        """Descriptors and children, at the fewest: at the other moments a restart is running."""
        found = []
        for _ in range(count):
            run.until("LOG process restarted")
            children = (facts / "task" / str(run.process.pid) / "children").read_text().split()
            found.append((len(list((facts / "fd").iterdir())), len(children)))
        return min(moment for moment, _ in found), min(moment for _, moment in found)

    before = restarts(10)
    restarts(20)
    after = restarts(10)
    assert after[0] <= before[0]
    assert after[1] <= 2


def test_two_ups_on_one_data_folder_refuse_clearly(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    refused = pytest.raises(ConfigurationError, match=rf"another `waylink up` \(process {os.getpid()}\)")
    with take_lock(folder), refused, take_lock(folder):
        pass
    with take_lock(folder):
        pass
