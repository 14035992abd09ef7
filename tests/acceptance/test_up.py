"""`waylink up` with nothing configured: what a newcomer sees, and what the supervisor promises."""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.acceptance.harness import Process, Waylink, installation, until


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Waylink, Process]]:
    """One installation in sandbox mode for the tests that leave it as it was."""
    with installation(example=True) as waylink:
        process = waylink.up("--no-scenario")
        yield waylink, process


@pytest.fixture
def newcomer() -> Iterator[Waylink]:
    with installation(example=True) as waylink:
        yield waylink


def test_in_an_empty_folder_a_newcomer_sees_events_flow(newcomer: Waylink) -> None:
    """Speed is not asserted: seven processes start slowly on a machine under other load."""
    waylink = newcomer
    process = waylink.spawn("up")
    process.says("ada of acme reconnected")
    for line in ("Webhook URL", f"{waylink.origin}/webhooks/nango", f"{waylink.origin}/", "waylink send auth_"):
        assert line in process.output
    until("the scenario is over", lambda: _all_finished(waylink))

    jobs = waylink.listing("jobs", "--state", "completed")
    assert sorted(job["name"] for job in jobs) == ["crm.import_contacts"] * 3 + ["support.connection_trouble"]
    events = waylink.listing("events")
    assert {event["state"] for event in events} == {"processed"}
    assert sorted(event["type"] for event in events if event["origin"] == "webhook") == [
        *["connection.created"] * 3,
        "connection.creation_failed",
        "connection.reauthorized",
    ]
    assert all(event["confirmed"] for event in events if event["type"] != "connection.creation_failed")

    connections = {connection["user"]: connection for connection in waylink.listing("connections")}
    assert {user: connection["organization"] for user, connection in connections.items()} == {
        "ada": "acme",
        "grace": "acme",
        "linus": "globex",
    }
    assert {connection["status"] for connection in connections.values()} == {"active"}
    assert {connection["linked_by"] for connection in connections.values()} == {"end_user_id"}
    planned = {user for user, connection in connections.items() if connection["refresh_at"]}
    assert planned == {"ada", "linus"}  # an API key does not expire


def _all_finished(waylink: Waylink) -> bool:
    """Four jobs completed and five webhooks processed, asked of the database: a command takes a second itself."""
    (jobs,) = waylink.sql("SELECT count(*) FROM jobs WHERE state = 'completed'")[0]
    (events,) = waylink.sql("SELECT count(*) FROM events WHERE state = 'processed' AND origin = 'webhook'")[0]
    return (jobs, events) == (4, 5)


def test_check_finds_nothing_bad(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    done = waylink.run("check")
    assert done.returncode == 0, done.stdout
    for line in ("database", "internal broker", "team broker", "environment default", "destination crm/jobs"):
        assert re.search(rf"^{line} +ok ", done.stdout, re.M), done.stdout
    assert waylink.status("/healthz") == waylink.status("/readyz") == waylink.status("/console/sign-in") == 200


def test_a_sample_that_is_sent_is_linked(running: tuple[Waylink, Process]) -> None:
    waylink, _ = running
    started = time.time()
    done = waylink.run("send", "auth_creation_success_tags", "--tag", "end_user_id=mary", "--tag", "plan=pro")
    assert done.returncode == 0, done.stderr
    event_id = re.search(r'^202 {"event_id":"(evt_\w+)","duplicate":false}$', done.stdout.strip())[1]
    event = until("processed", lambda: _processed(waylink, event_id), every=0.2)
    connection = waylink.show("connections", event["connection_id"])
    assert (connection["user"], connection["organization"]) == ("mary", "o-navy")
    assert connection["refresh_at"]
    assert event["document"]["user"]["external_id"] == "mary"
    assert [job["route"] for job in event["jobs"]] == ["import-contacts"]
    assert event["processed_at"] >= event["received_at"]
    assert datetime.fromisoformat(event["received_at"]).timestamp() >= started - 1


def _processed(waylink: Waylink, event_id: str) -> dict | None:
    event = waylink.show("events", event_id)
    return event if event["state"] == "processed" else None


def test_a_second_up_on_the_same_folder_refuses_in_one_line(running: tuple[Waylink, Process]) -> None:
    waylink, process = running
    done = waylink.run("up")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"process {process.pid}" in done.stderr
    assert process.running()


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with installation() as waylink, socket.create_server(("127.0.0.1", waylink.port)):
        done = waylink.run("up")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"WAYLINK_PORT: 127.0.0.1:{waylink.port} is in use" in done.stderr


@pytest.mark.parametrize("name", ["web", "events", "io", "beat", "sandbox", "valkey-server"])
def test_a_killed_child_comes_back_and_the_log_says_so(running: tuple[Waylink, Process], name: str) -> None:
    waylink, process = running
    victim = until(f"{name} runs", lambda: process.child(name))
    said = process.output.count("process restarted")
    os.kill(victim, signal.SIGKILL)
    until("the log says so", lambda: process.output.count("process restarted") > said)
    assert "signal SIGKILL" in process.output
    successor = until("a successor", lambda: process.child(name))
    assert successor != victim
    until("it is ready again", lambda: waylink.status("/readyz") == 200)
    done = until("a webhook gets through", lambda: _sent(waylink), every=0.5)
    event_id = re.search(r"evt_\w+", done)[0]
    until("and is processed", lambda: _processed(waylink, event_id), every=0.5)


def _sent(waylink: Waylink) -> str:
    done = waylink.run("send", "auth_creation_success_api_key")
    return done.stdout if done.returncode == 0 and "note:" not in done.stderr else ""


def test_whatever_ends_it_no_process_is_left_behind_and_the_next_start_goes_on() -> None:
    with installation() as waylink:
        first = waylink.up("--no-scenario")
        assert len(first.descendants()) >= 6
        sent = waylink.run("send", "auth_creation_success_tags")
        event_id = re.search(r"evt_\w+", sent.stdout)[0]
        first.send(signal.SIGINT)
        assert first.ends() == 0
        assert first.orphans() == {}
        assert waylink.status("/healthz") == 0
        assert "Traceback" not in first.output

        second = waylink.up("--no-scenario")
        event = until("processed", lambda: _processed(waylink, event_id), every=0.5)
        assert waylink.show("connections", event["connection_id"])["user"] == "u-grace"
        if sys.platform == "linux":  # only its kernel can promise it (app/runtime/supervisor.py)
            second.kill()
            until("all gone", lambda: not second.orphans())
        else:
            second.send(signal.SIGTERM)
            assert second.ends() == 0

        third = waylink.up("--no-scenario")
        assert waylink.run("check").returncode == 0
        third.send(signal.SIGTERM)
        assert third.ends() == 0
        assert third.orphans() == {}
