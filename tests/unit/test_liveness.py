"""Signs of life: a process is what its loops answer, and not what a thread beside them says."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.domain.liveness import STALE_SECONDS, ProcessKind, ProcessState, Sighting, Work, replaced
from app.runtime import life_files
from app.runtime.life_files import LIFE_SECONDS, LifeFile, folder_of, living, problem_of
from app.services.liveness import pulse as pulses
from app.services.liveness.pulse import Pulse
from tests.waiting import until

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def sighting(number=1, *, kind=ProcessKind.IO, host="a", started=1000.0, seen=1.0, written=1.0, stopped=None):
    return Sighting(
        id=UUID(int=number), kind=kind, host=host, started=started, seen=seen, written=written, stopped_at=stopped
    )


@pytest.mark.parametrize(
    ("seen", "written", "stopped", "state"),
    [
        (1.0, 1.0, None, ProcessState.RUNNING),
        (STALE_SECONDS, 1.0, None, ProcessState.STANDING_STILL),
        (STALE_SECONDS, STALE_SECONDS, None, ProcessState.SILENT),
        (1e6, 1e6, NOW, ProcessState.STOPPED),
    ],
)
def test_a_process_is_what_its_main_loop_and_its_reports_say(seen, written, stopped, state):
    assert sighting(seen=seen, written=written, stopped=stopped).state is state


def test_a_silent_process_is_replaced_by_one_of_its_kind_that_was_started_since():
    gone = sighting(1, seen=300, written=300)
    assert replaced([gone, sighting(2, started=200)]) == {gone.id}
    assert replaced([gone, sighting(2, started=400)]) == frozenset()  # it ran beside it
    assert replaced([gone, sighting(2, started=200, kind=ProcessKind.EVENTS)]) == frozenset()


def test_each_new_process_replaces_one():
    gone, other = sighting(1, seen=300, written=300), sighting(2, seen=310, written=310)
    assert replaced([gone, other, sighting(3, started=200)]) == {other.id}
    assert replaced([gone, other, sighting(3, started=200), sighting(4, started=100)]) == {gone.id, other.id}


def test_the_place_of_a_process_is_taken_on_its_own_host_first():
    gone, other = sighting(1, seen=310, written=310, host="a"), sighting(2, seen=300, written=300, host="b")
    assert replaced([gone, other, sighting(3, started=100, host="b"), sighting(4, started=200, host="a")]) == {
        gone.id,
        other.id,
    }


@pytest.fixture
def monotonic(monkeypatch):
    """The monotonic clock of pulses, moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(pulses.time, "monotonic", lambda: now[0])

    def move(seconds):
        now[0] += seconds

    yield move
    monkeypatch.undo()


def test_the_loop_that_is_silent_for_longest_counts(monotonic):
    pulse = Pulse(ProcessKind.EVENTS, ("consumer", "deliveries"))
    monotonic(7)
    pulse.answered("consumer")
    monotonic(2)
    assert pulse.signs().silent_seconds == 9
    pulse.answered("deliveries")
    assert pulse.signs().silent_seconds == 2


def test_a_pool_answers_while_a_thread_of_it_is_free_and_when_a_task_begins_or_ends(monotonic):
    pulse = Pulse(ProcessKind.IO, ("consumer",), pool_size=2)
    first = pulse.began("waylink.sweep")
    monotonic(30)
    pulse.answered_beside_pool("consumer")
    assert pulse.signs().silent_seconds == 0
    pulse.began("waylink.prune")
    monotonic(40)
    pulse.answered_beside_pool("consumer")
    assert pulse.signs().silent_seconds == 40  # both threads are at work, and neither has ended
    pulse.ended(first)
    assert pulse.signs().silent_seconds == 0


def test_the_task_that_began_first_is_told(monotonic):
    pulse = Pulse(ProcessKind.IO, ("consumer",), pool_size=8, clock=lambda: NOW)
    first = pulse.began("waylink.refresh_due")
    monotonic(30)
    pulse.began("x" * 1000)
    signs = pulse.signs()
    assert (signs.task, (NOW - signs.task_since).total_seconds()) == ("waylink.refresh_due", 30)
    pulse.ended(first)
    assert len(pulse.signs().task) == pulses.LONGEST_NAME


def test_progress_is_the_last_time_of_each_kind_of_work():
    pulse = Pulse(ProcessKind.WEB, ("event loop",), clock=lambda: NOW)
    pulse.did(Work.STORED)
    assert pulse.signs().progress == {"stored": NOW}


def test_a_part_is_marked_once_a_second_at_most(monotonic):
    marked = []
    pulse = Pulse(ProcessKind.IO, ("deliveries",), mark=marked.append)
    for _ in range(100):
        pulse.answered("deliveries")
    monotonic(1)
    pulse.answered("deliveries")
    assert marked == ["deliveries", "deliveries"]


# The files of a host


def test_a_process_that_answers_lives(tmp_path):
    assert "no process of the kind web lives here" in problem_of(tmp_path, "web")
    file = LifeFile(tmp_path, "web", ("event loop", "commit"))
    assert problem_of(tmp_path, "web") is None
    assert "no process of the kind io" in problem_of(tmp_path, "io")
    [life] = living(tmp_path, "web")
    assert life.pid == os.getpid()
    assert life.silent.keys() == {"event loop", "commit"}
    file.remove()
    assert "no process of the kind web lives here" in problem_of(tmp_path, "web")


def test_a_part_that_does_not_answer_is_named_with_its_process(tmp_path, monkeypatch):
    file = LifeFile(tmp_path, "web", ("event loop", "commit"))
    now = time.monotonic()
    monkeypatch.setattr(life_files.time, "monotonic", lambda: now + LIFE_SECONDS + 1)
    file.mark("event loop")
    problem = problem_of(tmp_path, "web")
    assert problem is not None
    assert problem.startswith(f"process {os.getpid()} stands still: its commit last answered")
    file.mark("commit")
    assert problem_of(tmp_path, "web") is None
    file.remove()


def test_of_several_processes_each_has_to_answer(tmp_path, monkeypatch):
    files = [LifeFile(tmp_path, "io", ("consumer",)) for _ in range(2)]
    now = time.monotonic()
    monkeypatch.setattr(life_files.time, "monotonic", lambda: now + LIFE_SECONDS + 1)
    files[0].mark("consumer")
    assert "stands still" in problem_of(tmp_path, "io")
    files[1].mark("consumer")
    assert problem_of(tmp_path, "io") is None
    for file in files:
        file.remove()


def test_the_file_of_a_killed_process_says_nothing_and_is_removed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from app.runtime.life_files import LifeFile;"
        "file = LifeFile(Path(sys.argv[1]), 'beat', ('scheduler',)); print('ready', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        assert problem_of(tmp_path, "beat") is None
        process.kill()
    until("the lock is released", lambda: problem_of(tmp_path, "beat"))
    assert [*folder_of(tmp_path).iterdir()] == []


def test_a_folder_that_cannot_be_written_is_told_and_ends_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    file = LifeFile(tmp_path / "file", "web", ("event loop",))
    assert "Not a directory" in file.problem
    file.mark("event loop")
    file.remove()
