"""Reconciliation repairs what webhooks missed, whichever process is killed meanwhile (promise 6)."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.sandbox import statefile
from app.sandbox.entities import SandboxConnection, SandboxIntegration, SavedState
from tests.acceptance.harness import Sandbox, Waylink, installation, until
from tests.waiting import PATIENCE

COUNT = 16_000  # eight pages: long enough to be killed in the middle of


@pytest.fixture
def waylink() -> Iterator[Waylink]:
    """A Nango account that is a month old, from which no webhook ever came."""
    config = """
        [teams.crm.destinations.jobs]
        kind = "celery"
        queue = "team.crm.jobs"
        [[routes]]
        name = "new"
        team = "crm"
        destination = "jobs"
        job = "crm.new"
        pattern = '{"type": ["connection.created"], "connection_id": [{"prefix": "0000000"}]}'
    """
    with installation(config=config) as waylink:
        statefile.write(waylink.data / "sandbox-state.json", _account())
        waylink.up("--no-scenario")
        slow_down(waylink.sandbox(), True)
        yield waylink


def slow_down(sandbox: Sandbox, slow: bool) -> None:
    """Each page of Nango's list takes a second, so that a run can be met in the middle."""
    if slow:
        sandbox.call("POST", "/sandbox/faults", json={"operation": "list_connections", "delay": 1.0, "times": 100})
    else:
        sandbox.call("DELETE", "/sandbox/faults")


@pytest.mark.timeout(400)
def test_an_account_is_imported_although_its_worker_is_killed_in_the_middle(waylink: Waylink) -> None:
    """The first run begins by itself. Killed at both checks, it is continued by another process where it was."""
    up = waylink.processes[0]
    run = until("the first run is running", lambda: _run(waylink, pages=3), every=0.02)
    _kill(up.child("io"))
    assert 3 <= waylink.sql("SELECT pages FROM reconciliations")[0][0] < COUNT / 2000  # in the middle
    slow_down(waylink.sandbox(), False)
    _pass_time(waylink)
    until("the first check is over", lambda: _run(waylink, stage="checking"), every=0.1)
    assert waylink.sql("SELECT count(*) FROM differences")[0][0] == COUNT
    _pass_time(waylink)
    until("the second check is running", lambda: _run(waylink, pages=11), every=0.02)
    _kill(up.child("io"))
    _pass_time(waylink)
    until("the run is over", lambda: _run(waylink, stage="done"), seconds=2 * PATIENCE, every=0.5)

    report = waylink.show("reconcile", f"rec_{run['id']}")
    assert (report["trigger"], report["outcome"], report["problem"]) == ("import", "completed", None)
    assert (report["seen"], report["counted"]) == (COUNT, {"connection.created": COUNT})
    assert (report["healed"], report["unhealed"], report["missed_by_webhook"]) == (COUNT, 0, 0)
    assert waylink.sql("SELECT count(*) FROM events WHERE type = 'connection.created'")[0][0] == COUNT
    assert waylink.sql("SELECT count(*) FROM links WHERE closed_at IS NULL")[0][0] == COUNT
    assert waylink.sql("SELECT count(*), count(DISTINCT event_id) FROM jobs")[0] == (15, 15)
    assert waylink.sql("SELECT count(*) FROM differences")[0][0] == 0
    assert len(waylink.listing("reconcile", "list")) == 1

    # Nothing differs any more, as the command reports.
    dry = waylink.run("reconcile", "--dry-run", "--json")
    assert (dry.returncode, dry.stderr.count("Traceback")) == (0, 0)
    assert '"found": {}' in dry.stdout


def _run(waylink: Waylink, *, pages: int = 0, stage: str = "") -> dict[str, Any] | None:
    """The run, once it is so far."""
    rows = waylink.sql("SELECT id, pages, stage FROM reconciliations")
    found = [{"id": row[0], "pages": row[1], "stage": row[2]} for row in rows]
    return next((run for run in found if run["pages"] >= pages and stage in {"", run["stage"]}), None)


def _pass_time(waylink: Waylink) -> None:
    """End the minute between two checks, or the lease of a killed worker, by moving its time."""
    past = (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None).isoformat(" ")
    waylink.sql("UPDATE reconciliations SET next_at = :past WHERE finished_at IS NULL", past=past)


def _kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def _account() -> SavedState:
    made = datetime.now(UTC) - timedelta(days=30)
    integration = SandboxIntegration(
        unique_key="oauth2",
        provider="local-oauth2",
        auth_mode="OAUTH2",
        display_name="oauth2",
        forward_webhooks=True,
        created_at=made,
        updated_at=made,
    )
    connections = [_connection(number, made + timedelta(seconds=number)) for number in range(1, COUNT + 1)]
    return SavedState(next_id=COUNT + 1, integrations=(integration,), connections=tuple(connections))


def _connection(number: int, at: datetime) -> SandboxConnection:
    return SandboxConnection(
        id=number,
        connection_id=f"{number:08x}-imported",
        integration="oauth2",
        provider="local-oauth2",
        auth_mode="OAUTH2",
        tags={"end_user_id": f"user-{number}", "organization_id": f"organization-{number % 50}"},
        created_at=at,
        updated_at=at,
        last_fetched_at=at,
        connection_config={},
        credentials={"type": "OAUTH2", "access_token": "t", "raw": {}},
    )
