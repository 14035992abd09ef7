"""Liveness that cannot lie: real processes are frozen, killed and stopped, and what is said of them is true."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from app.clock import utc_now
from app.db.engine import connect
from app.db.read import canary, processes
from app.db.read.canary import StageAge
from app.db.read.processes import SeenProcess
from app.domain.liveness import STALE_SECONDS, ProcessKind, ProcessState
from app.runtime.life_files import LIFE_SECONDS
from tests.acceptance.harness import Process, Waylink, installation, until
from tests.servers import PostgresServer, ValkeyServer

PERIOD = 5.0
KEYS = {"WAYLINK_NANGO_SIGNING_KEYS": "a-signing-key", "WAYLINK_CANARY_EVERY": f"{PERIOD:.0f}s"}
OLD = 3 * PERIOD  # of a stage: no canary that is on its way takes so long
COUNTS = {ProcessKind.WEB: 2, ProcessKind.EVENTS: 1, ProcessKind.IO: 2, ProcessKind.BEAT: 1}


@dataclass
class Running:
    """All processes of an installation: two web processes, two io workers, and one of each other kind."""

    waylink: Waylink
    started: dict[str, Process]

    def seen(self) -> list[SeenProcess]:
        with closing(connect(self.waylink.database_url)) as database, database.read() as session:
            return processes.all_processes(session, now=utc_now())

    def states(self, kind: ProcessKind) -> list[ProcessState]:
        return sorted(process.state for process in self.seen() if process.kind is kind)

    def all_run(self) -> bool:
        return all(self.states(kind) == [ProcessState.RUNNING] * count for kind, count in COUNTS.items())

    def stage(self, name: str) -> StageAge | None:
        with closing(connect(self.waylink.database_url)) as database, database.read() as session:
            return next((stage for stage in canary.stages(session, now=utc_now()) if stage.stage == name), None)

    def is_old(self, name: str) -> bool:
        stage = self.stage(name)
        return stage is not None and stage.passed is not None and stage.passed >= OLD

    def passes(self) -> bool:
        """Whether a canary has come the whole way within its period, and a little."""
        stage = self.stage("delivered")
        return stage is not None and stage.passed is not None and stage.passed < OLD and stage.waiting is None

    @contextlib.contextmanager
    def frozen(self, kind: ProcessKind) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end, for all processes of a kind."""
        pids = [process.pid for process in self.seen() if process.kind is kind]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def running(request: pytest.FixtureRequest, valkey: ValkeyServer, postgres: PostgresServer) -> Iterator[Running]:
    valkey.start()
    valkey.flush()
    variables = KEYS | {"WAYLINK_BROKER_URL": valkey.url(0), "WAYLINK_TEAM_BROKER_URL": valkey.url(1)}
    if request.param == "PostgreSQL":
        variables["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with installation(**variables) as waylink:
        assert waylink.run("migrate").returncode == 0
        commands = {
            "web": ("web", "--processes", "2"),
            "events": ("worker", "events"),
            "io": ("worker", "io"),
            "io 2": ("worker", "io"),
            "beat": ("beat",),
        }
        running = Running(waylink, {name: waylink.spawn(*command) for name, command in commands.items()})
        until("all processes report", running.all_run, every=0.5)
        until("a canary has come the whole way", running.passes, every=0.5)
        yield running


def test_what_stands_still_is_seen_and_what_goes_on_is_healed(running: Running) -> None:
    stages = {ProcessKind.WEB: "stored", ProcessKind.EVENTS: "processed", ProcessKind.IO: "delivered"}
    for kind, count in COUNTS.items():
        with running.frozen(kind):
            frozen = [ProcessState.SILENT] * count
            until(f"{kind} is silent", lambda kind=kind, frozen=frozen: running.states(kind) == frozen, every=0.5)
            if kind in stages:
                until(f"the canary is late at {kind}", lambda kind=kind: running.is_old(stages[kind]), every=0.5)
            others = [ProcessState.RUNNING] * (sum(COUNTS.values()) - count)
            assert [process.state for process in running.seen() if process.kind is not kind] == others
        until(f"{kind} runs again", running.all_run, every=0.5)
        until("a canary comes the whole way", running.passes, every=0.5)
    assert running.waylink.listing("events") == []
    assert running.waylink.listing("jobs") == []


def test_a_clean_stop_is_told_from_a_kill_and_the_place_of_what_was_killed_is_taken(running: Running) -> None:
    running.started["io"].send(signal.SIGTERM)
    assert running.started["io"].ends() == 0
    assert running.states(ProcessKind.IO) == [ProcessState.RUNNING, ProcessState.STOPPED]
    running.started["io 2"].kill()
    until(
        "the killed one is silent",
        lambda: running.states(ProcessKind.IO) == [ProcessState.SILENT, ProcessState.STOPPED],
        every=0.5,
    )
    assert not any(process.replaced for process in running.seen())
    running.waylink.spawn("worker", "io")
    until("another takes its place", lambda: ProcessState.RUNNING in running.states(ProcessKind.IO), every=0.5)
    assert [process.replaced for process in running.seen() if process.state is ProcessState.SILENT] == [True]
    assert running.waylink.run("healthz", "io").returncode == 0


@pytest.mark.parametrize("running", ["SQLite"], indirect=True)
def test_probes_of_each_kind_say_whether_it_lives_and_makes_progress(running: Running) -> None:
    for kind in ProcessKind:
        done = running.waylink.run("healthz", kind)
        assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    with contextlib.ExitStack() as frozen:
        for kind in ProcessKind:
            frozen.enter_context(running.frozen(kind))
        for kind in ProcessKind:
            until(
                f"{kind} is not well", lambda kind=kind: running.waylink.run("healthz", kind).returncode == 1, every=2
            )
            assert "stands still" in running.waylink.run("healthz", kind).stderr
    for kind in ProcessKind:
        until(f"{kind} is well", lambda kind=kind: running.waylink.run("healthz", kind).returncode == 0, every=2)
    running.started["beat"].kill()
    done = running.waylink.run("healthz", "beat")
    assert done.returncode == 1
    assert "no process of the kind beat lives here" in done.stderr
    assert LIFE_SECONDS > STALE_SECONDS


@pytest.mark.parametrize("running", ["SQLite"], indirect=True)
def test_a_lock_of_sqlite_is_named(running: Running) -> None:
    def database() -> str:
        return running.waylink.http.get("/readyz").json()["database"]

    assert database() == "ok"
    file = running.waylink.data / "waylink.db"
    with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        until("the lock is named", lambda: database() == "locked", every=0.5)
        assert running.waylink.status("/healthz") == 200
        other.execute("ROLLBACK")
    until("it is ready again", lambda: database() == "ok", every=0.5)


def test_a_full_disk_is_named(valkey: ValkeyServer) -> None:
    valkey.start()
    variables = KEYS | {"WAYLINK_BROKER_URL": valkey.url(0), "WAYLINK_TEAM_BROKER_URL": valkey.url(1)}
    with installation(**variables) as waylink:
        waylink.data.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(waylink.data)]
        if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
            pytest.skip("needs the right to mount a file system, which root of many containers has not")
        try:
            assert waylink.run("migrate").returncode == 0
            web = waylink.spawn("web")
            until("it is ready", lambda: waylink.status("/readyz") == 200, every=0.5)
            filling = waylink.data / "filling"
            with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            until("it is named", lambda: waylink.http.get("/readyz").json()["database"] == "disk full", every=0.5)
            assert waylink.run("healthz", "web").returncode == 0
            filling.unlink()
            until("it is ready again", lambda: waylink.status("/readyz") == 200, every=0.5)
            web.send(signal.SIGTERM)
            web.ends()
        finally:
            waylink.processes[-1].close()
            subprocess.run(["umount", "--lazy", str(waylink.data)], check=True)
