"""A sandbox over its life: the state file, the command, the scenario, and load."""

import os
import re
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner

from app.cli.sandbox import sandbox as command
from app.errors import ConfigurationError
from app.sandbox.scenario import play
from tests.integration.sandbox.sandbox_server import (
    API_KEY,
    SIGNING_KEY,
    connect,
    control,
    fetch,
    open_session,
    receive,
    register,
    run_flow,
    serve,
)
from tests.ports import free_port
from tests.waiting import PATIENCE, until

UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def test_the_state_survives_a_restart(tmp_path):
    path = tmp_path / "made" / "state.json"
    with serve(state_file=path) as client:
        connection_id = connect(client, integration="oauth2", tags={"uni": "東京"}, end_user={"id": "u"})
        register(client, "gone", "apikey")
        client.delete("/connections/gone?provider_config_key=apikey").raise_for_status()
        register(client, "other", "google-mail", authMode="OAUTH2", provider="google-mail")
        control(client, "other", "google-mail", exhausted=True)
        token = open_session(client, tags={"s": "1"})
        before = fetch(client, connection_id, "oauth2", refresh_token="true").json()
        rows = client.get("/connections").json()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    with serve(state_file=path) as client:
        after = fetch(client, connection_id, "oauth2", refresh_token="true").json()
        assert client.get("/connections").json() == rows
        assert after | {"last_fetched_at": ""} == before | {"last_fetched_at": ""}
        assert fetch(client, "other", "google-mail").status_code == 424
        assert run_flow(client, "/auth/unauthenticated/unauth", token).status_code == 200
        assert register(client, "gone", "apikey")["id"] > max(row["id"] for row in rows["connections"])


def test_the_state_is_written_while_running_and_not_for_reads(tmp_path):
    path = tmp_path / "state.json"
    with serve(state_file=path) as client:
        connection_id = connect(client, integration="oauth2")
        until("it is written", lambda: path.exists() and connection_id in path.read_text())
    before = path.stat().st_ino
    with serve(state_file=path) as client:
        until("it is written at the start", lambda: path.stat().st_ino != before)
        written = path.stat().st_ino
        fetch(client, connection_id, "oauth2")
        client.get("/connections")
    assert path.stat().st_ino == written  # at the end, too, only if it changed


def test_a_broken_state_file_is_named(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("{")
    with pytest.raises(ConfigurationError, match=re.escape(str(path))), serve(state_file=path):
        pass
    result = CliRunner().invoke(command, ["--state-file", str(path)])
    assert result.exit_code == 1
    assert str(path) in result.output


def test_the_command_refuses_a_key_nango_would_refuse():
    result = CliRunner().invoke(command, ["--api-key", "short"])
    assert result.exit_code == 2
    assert "UUIDv4" in result.output


def answers(base_url):
    try:
        return httpx.get(f"{base_url}/health", trust_env=False, timeout=PATIENCE).json() == {"result": "ok"}
    except httpx.TransportError:
        return False


@pytest.fixture
def started():
    """Starts the command as a process of its own; ends it and returns what it printed."""
    processes = []

    def start(*arguments, **environment):
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-c", "from app.cli.sandbox import sandbox; sandbox()", "--port", str(port), *arguments],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
        base_url = f"http://127.0.0.1:{port}"
        until("it answers or has ended", lambda: process.poll() is not None or answers(base_url))
        assert process.poll() is None, process.stdout.read()
        return process, base_url

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def stopped(process):
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    return output


def test_the_command_makes_up_keys_and_prints_what_a_user_needs(started):
    process, base_url = started()
    output = stopped(process)
    assert f"WAYLINK_NANGO_BASE_URL={base_url}\n" in output
    assert re.search(rf"^WAYLINK_NANGO_API_KEY={UUID4}$", output, re.MULTILINE)
    assert re.search(rf"^WAYLINK_NANGO_SIGNING_KEYS={UUID4}$", output, re.MULTILINE)
    assert "GET /health" not in output


def test_keys_from_the_environment_are_used_and_not_printed(started, tmp_path):
    path = tmp_path / "state.json"
    process, base_url = started(
        WAYLINK_SANDBOX_API_KEY=API_KEY,
        WAYLINK_SANDBOX_SIGNING_KEY=SIGNING_KEY,
        WAYLINK_SANDBOX_STATE_FILE=str(path),
        WAYLINK_SANDBOX_REPLICA_LAG="1.5",
        WAYLINK_SANDBOX_ENVIRONMENT="staging",
    )
    headers = {"authorization": f"Bearer {API_KEY}"}
    with httpx.Client(base_url=base_url, headers=headers, trust_env=False, timeout=PATIENCE) as client:
        settings = client.get("/sandbox/settings").raise_for_status().json()
        connection_id = connect(client)
    output = stopped(process)
    assert (settings["replica_lag"], settings["environment"]) == (1.5, "staging")
    assert API_KEY not in output
    assert SIGNING_KEY not in output
    assert connection_id in path.read_text()


def test_the_scenario_plays_with_two_seconds_of_pauses_and_again(tmp_path, monkeypatch):
    lines, pauses = [], []
    monkeypatch.setattr("app.sandbox.scenario.time", SimpleNamespace(sleep=pauses.append))
    with receive() as receiver, serve(webhook_url=receiver.url) as client:
        play(str(client.base_url), API_KEY, log=lines.append)
        assert sum(pauses) <= 2
        first = [receiver.body() for _ in range(5)]
        play(str(client.base_url), API_KEY, log=lines.append, pause=0)
        second = [receiver.body() for _ in range(2)]
        rows = client.get("/connections").json()["connections"]
    operations = [(body["operation"], body["success"]) for body in first]
    assert sorted(operations) == [("creation", False)] + [("creation", True)] * 3 + [("override", True)]
    assert sorted((body["operation"], body["success"]) for body in second) == [("creation", False), ("override", True)]
    assert {row["provider_config_key"] for row in rows} == {"apikey", "oauth2", "oauth2-cc"}
    assert {row["tags"]["plan"] for row in rows} == {"pro", "enterprise"}
    assert {row["tags"]["organization_id"] for row in rows} == {"acme", "globex"}
    assert len(lines) == 7
    assert API_KEY not in "".join(lines)


def test_a_webhook_arrives_after_the_answer_that_caused_it():
    with receive() as receiver, serve(webhook_url=receiver.url) as client:
        for _ in range(20):
            connection_id = connect(client)
            assert receiver.body()["connectionId"] == connection_id


def test_many_at_once_each_find_what_they_ask_for_among_thousands():
    per_client, clients = 100, 4
    with serve() as client:
        for number in range(2000):
            register(client, f"bulk-{number}", "apikey", tags={"n": str(number)})
        headers = {"authorization": f"Bearer {API_KEY}"}

        def ask(offset):
            wanted = [f"bulk-{offset * per_client + number}" for number in range(per_client)]
            with httpx.Client(base_url=client.base_url, headers=headers, trust_env=False, timeout=PATIENCE) as own:
                found = [own.get("/connections", params={"connectionId": id_}).json()["connections"] for id_ in wanted]
            return [[row["connection_id"] for row in rows] for rows in found] == [[id_] for id_ in wanted]

        with ThreadPoolExecutor(clients) as pool:
            assert all(pool.map(ask, range(clients)))
