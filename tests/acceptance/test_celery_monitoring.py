"""The answers and events of workers that Flower reads: names, queues and tasks as docs/celery.md has them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE, QUEUE_OF
from tests.acceptance.harness import REPOSITORY, Process, Waylink, installation, until
from tests.servers import PostgresServer, ValkeyServer

PAGE = (REPOSITORY / "docs" / "celery.md").read_text()
# What Flower inspects of each worker, by Celery's remote control.
ASKED = ("stats", "active_queues", "registered", "scheduled", "active", "reserved", "revoked", "conf")
QUEUES = {"events": EVENTS_QUEUE, "io": IO_QUEUE}


@pytest.fixture(scope="module")
def waylink(postgres: PostgresServer, valkey: ValkeyServer) -> Iterator[Waylink]:
    postgres.start()
    valkey.start()
    valkey.flush()
    variables = {
        "WAYLINK_DATABASE_URL": postgres.create_database(),
        "WAYLINK_BROKER_URL": valkey.url(0),
        "WAYLINK_TEAM_BROKER_URL": valkey.url(1),
        "WAYLINK_NANGO_SIGNING_KEYS": "hunter2-signing-key",
    }
    with installation(**variables) as waylink:
        assert waylink.run("migrate").returncode == 0
        yield waylink


@pytest.fixture(scope="module")
def monitored(waylink: Waylink) -> dict[str, Process]:
    on = {"WAYLINK_CELERY_MONITORING": "true"}
    return {kind: waylink.spawn("worker", kind, **on) for kind in QUEUES} | {"beat": waylink.spawn("beat")}


@pytest.fixture(scope="module")
def monitor(waylink: Waylink) -> Iterator[Celery]:
    """As Flower is started: it knows the broker and nothing else."""
    with Celery("monitor", broker=waylink.env["WAYLINK_BROKER_URL"], set_as_current=False) as app:
        yield app


def asked(monitor: Celery, method: str, workers: int = 2) -> dict[str, Any]:
    """The answers of this many workers, by name."""

    def answers() -> dict[str, Any]:
        found = getattr(monitor.control.inspect(timeout=2.0), method)() or {}
        return found if len(found) == workers else {}

    found: dict[str, Any] = until(f"{workers} workers answer {method}", answers)
    return found


def rows(first: str) -> list[list[str]]:
    """The quoted words of each row of the page's table with this first heading."""
    [table] = re.findall(rf"^\| {first} \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    return [re.findall(r"`([^`]+)`", line) for line in table.splitlines()[2:] if line]


def test_workers_answer_flower_with_the_names_queues_and_tasks_that_the_page_has(
    monitored: dict[str, Process], monitor: Celery
) -> None:
    answers = {method: asked(monitor, method) for method in ASKED}
    kinds = {}
    for name in answers["stats"]:
        kind, pid = re.fullmatch(r"(events|io)-(\d+)@\S+", name).groups()
        kinds[name] = kind
        assert int(pid) == monitored[kind].pid, "the command becomes the worker"
    assert sorted(kinds.values()) == ["events", "io"]
    for name, kind in kinds.items():
        assert [queue["name"] for queue in answers["active_queues"][name]] == [QUEUES[kind]]
        assert set(answers["registered"][name]) == set(QUEUE_OF)
    assert {row[0]: row[1] for row in rows("task")} == QUEUE_OF
    documented = {row[0]: (row[1], row[2].partition("-<pid>@")[0]) for row in rows("queue")}
    assert documented == {queue: (f"waylink worker {kind}", kind) for kind, queue in QUEUES.items()}


def test_no_answer_has_a_password_or_a_key(
    monitored: dict[str, Process], monitor: Celery, waylink: Waylink, valkey: ValkeyServer
) -> None:
    told = json.dumps([asked(monitor, method) for method in ASKED], default=str)
    for url in ("WAYLINK_BROKER_URL", "WAYLINK_TEAM_BROKER_URL", "WAYLINK_DATABASE_URL"):
        password = re.search(r":([^:@/]+)@", waylink.env[url])[1]
        assert password not in told, url
    assert "hunter2" not in told


def test_a_monitor_that_asks_for_events_hears_heartbeats_and_tasks(
    monitored: dict[str, Process], monitor: Celery
) -> None:
    seen: list[tuple[str, str]] = []
    task_names: set[str] = set()

    def note(event: dict[str, Any]) -> None:
        seen.append((event["type"], event["hostname"].partition("-")[0]))
        if event["type"] == "task-received":
            task_names.add(event["name"])

    wanted = {("worker-heartbeat", "events"), ("worker-heartbeat", "io"), ("task-succeeded", "io")}
    with monitor.connection_for_read() as connection:
        receiver = monitor.events.Receiver(connection, handlers={"*": note})

        def heard() -> bool:
            monitor.control.enable_events()
            receiver.capture(limit=5, timeout=30, wakeup=True)
            return wanted <= set(seen) and "waylink.sweep" in task_names

        until("heartbeats of both workers, and a task of Beat's", heard)
    assert task_names <= set(QUEUE_OF)


def test_without_the_setting_no_worker_answers_or_sends(monitored: dict[str, Process], waylink: Waylink) -> None:
    """On another database of the broker, so that only this one is asked."""
    alone = waylink.env["WAYLINK_BROKER_URL"].removesuffix("/0") + "/2"
    worker = waylink.spawn("worker", "events", WAYLINK_BROKER_URL=alone)
    until("it takes work", lambda: f"events-{worker.pid}@" in worker.output)
    with Celery("monitor", broker=alone, set_as_current=False) as app:
        assert app.control.inspect(timeout=2.0).ping() is None
