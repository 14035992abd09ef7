"""Processes that start while the database or the broker is away: they say so, wait, and go on by themselves."""

import signal
from collections.abc import Iterator

import pytest
import redis

from app.brokers.celery_broker import IO_QUEUE
from tests.acceptance.harness import Process, Waylink, creation, installation, until
from tests.ports import free_port
from tests.servers import PostgresServer, ValkeyServer

KEY = "a-signing-key"
BACKGROUND = ("worker events", "worker io", "beat")


@pytest.fixture
def waylink(postgres: PostgresServer, postgres_url: str, broker_url: str, valkey: ValkeyServer) -> Iterator[Waylink]:
    given = {"WAYLINK_NANGO_SIGNING_KEYS": KEY, "WAYLINK_DATABASE_URL": postgres_url, "WAYLINK_BROKER_URL": broker_url}
    with installation(**given, WAYLINK_TEAM_BROKER_URL=valkey.url(1)) as waylink:
        yield waylink
    for server in (postgres, valkey):
        server.start()


def start(waylink: Waylink) -> list[Process]:
    return [waylink.spawn(*command.split()) for command in (*BACKGROUND, "web")]


def work_is_done(waylink: Waylink, group: str) -> None:
    """A webhook is stored and processed, also where its message was lost."""
    until("web answers", lambda: waylink.status("/healthz") == 200)
    assert waylink.post(creation(1, group=group), KEY).status_code == 202
    processed = "SELECT 1 FROM events WHERE state = 'processed' AND convert_from(body, 'UTF8') LIKE :group"
    until("it is processed", lambda: waylink.sql(processed, group=f"%{group}-1%"))


def is_quiet(processes: list[Process]) -> None:
    for process in processes:
        assert process.running(), process.output
        assert "Traceback" not in process.output


def test_processes_that_start_without_their_database_wait_for_it(waylink: Waylink, postgres: PostgresServer) -> None:
    assert waylink.run("migrate").returncode == 0
    postgres.stop()
    processes = start(waylink)
    for process in processes:
        process.says("database_away")
    postgres.start()
    for process in processes[: len(BACKGROUND)]:
        process.says("database_back")
    work_is_done(waylink, "database")
    is_quiet(processes)


def test_processes_that_start_without_their_broker_wait_for_it(waylink: Waylink, valkey: ValkeyServer) -> None:
    assert waylink.run("migrate").returncode == 0
    valkey.stop()
    events, io, beat, web = processes = start(waylink)
    for worker in (events, io):
        worker.says("Cannot connect to")
    beat.says("broker_away")
    until("web answers", lambda: waylink.status("/healthz") == 200)
    assert waylink.post(creation(1, group="early"), KEY).status_code == 202
    web.says("hints_lost")
    valkey.start()
    for worker in (events, io):
        worker.says(" ready.")
    work_is_done(waylink, "early")
    is_quiet(processes)


def test_up_waits_for_database_and_broker(waylink: Waylink, postgres: PostgresServer, valkey: ValkeyServer) -> None:
    postgres.stop()
    valkey.stop()
    up = waylink.spawn("up")
    up.says("database_away")
    postgres.start()
    up.says("Waylink is up.")
    until("workers and Beat wait", lambda: "Cannot connect to" in up.output and "broker_away" in up.output)
    valkey.start()
    work_is_done(waylink, "up")
    is_quiet([up])
    assert "a process died" not in up.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_waiting_process_can_be_stopped(number: signal.Signals) -> None:
    url = f"postgresql://waylink:hunter2@127.0.0.1:{free_port()}/waylink"
    with installation(WAYLINK_NANGO_SIGNING_KEYS=KEY, WAYLINK_DATABASE_URL=url) as waylink:
        processes = [waylink.spawn(*command.split()) for command in ("worker events", "beat", "up")]
        for process in processes:
            process.says("database_away")
            process.send(number)
        for process in processes:
            assert process.ends() == 0
            assert "Traceback" not in process.output
            assert "hunter2" not in process.output


def test_a_schema_that_is_not_there_ends_the_wait(waylink: Waylink, postgres: PostgresServer) -> None:
    postgres.stop()
    processes = [waylink.spawn(*command.split()) for command in BACKGROUND]
    for process in processes:
        process.says("database_away")
    postgres.start()
    for process in processes:
        assert process.ends() == 2
        assert "run `waylink migrate`" in process.output


def test_ticks_come_again_after_a_broker_that_was_lost(waylink: Waylink, valkey: ValkeyServer) -> None:
    assert waylink.run("migrate").returncode == 0
    beat = waylink.spawn("beat")
    with redis.Redis.from_url(valkey.url(0)) as client:
        for count in range(3):
            client.delete(IO_QUEUE)
            until("ticks come", lambda: client.llen(IO_QUEUE))
            valkey.stop()
            until("one is lost", lambda count=count: beat.output.count("tick_not_sent") > count)
            valkey.start()
        client.delete(IO_QUEUE)
        until("ticks come", lambda: client.llen(IO_QUEUE))
    is_quiet([beat])
