"""`waylink reconcile` for people and programs, without any worker; and what `waylink status` says of runs."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.cli import reconcile
from app.db import reconciliations as rows
from app.db.engine import connect
from app.domain.reconciling import RECHECK_AFTER, RunOutcome, Stage, Trigger
from app.ids import RECONCILIATION, new_id, show
from app.sandbox import statefile
from app.sandbox.entities import SandboxConnection, SandboxIntegration, SavedState
from app.services.reconciliation import reconciler
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.sandbox.sandbox_server import API_KEY, SIGNING_KEY, serve
from tests.ports import free_port

MONTH_AGO = datetime.now(UTC) - timedelta(days=30)


def connection(number):
    return SandboxConnection(
        id=number,
        connection_id=f"c-{number}",
        integration="oauth2",
        provider="p",
        auth_mode="OAUTH2",
        tags={"end_user_id": f"person-{number}"},
        created_at=MONTH_AGO,
        updated_at=MONTH_AGO,
        last_fetched_at=MONTH_AGO,
        connection_config={},
        credentials={},
    )


@pytest.fixture
def waylink(tmp_path):
    """A migrated installation without processes, whose Nango has three connections that it does not know."""
    facts = {"provider": "p", "auth_mode": "OAUTH2", "display_name": "o", "forward_webhooks": True}
    integration = SandboxIntegration(unique_key="oauth2", created_at=MONTH_AGO, updated_at=MONTH_AGO, **facts)
    file = tmp_path / "nango.json"
    statefile.write(
        file,
        SavedState(next_id=4, integrations=(integration,), connections=(*map(connection, (1, 2, 3)),)),
    )
    with serve(state_file=file) as nango:
        variables = {
            "WAYLINK_NANGO_API_KEY": API_KEY,
            "WAYLINK_NANGO_SIGNING_KEYS": SIGNING_KEY,
            "WAYLINK_NANGO_BASE_URL": str(nango.base_url).rstrip("/"),
            "WAYLINK_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        }
        command = Command(tmp_path, variables)
        assert command.inside("migrate").returncode == 0
        yield command


@pytest.fixture
def impatient(monkeypatch):
    """Remove the minute between two checks and the wait for a worker."""
    monkeypatch.setattr(reconcile, "UNCLAIMED", timedelta(0))
    monkeypatch.setattr(reconcile, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(reconciler, "RECHECK_AFTER", timedelta(0))
    monkeypatch.setattr(reconciler, "PROCESS_WITHIN", timedelta(0))


def test_a_dry_run_says_what_differs_without_any_worker(waylink, impatient):
    done = waylink.inside("reconcile", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "we know no such connection" in done.stdout
    assert "c-2" in done.stdout
    assert "person-2" not in done.stdout  # no personal data
    assert "default: 0 connections seen, 0 differ" in done.stderr
    [report] = waylink.json("reconcile", "list")
    assert (report["dry_run"], report["outcome"], report["found"]) == (True, "completed", {"connection.created": 3})
    assert waylink.json("events") == waylink.json("connections") == []


def test_wait_does_the_work_where_no_worker_does(waylink, impatient):
    done = waylink.inside("reconcile", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    [report] = json.loads(done.stdout)
    assert (report["trigger"], report["counted"]) == ("import", {"connection.created": 3})
    assert "3 events still to be processed" in report["problem"]
    assert [event["origin"] for event in waylink.json("events")] == ["reconcile"] * 3
    assert waylink.json("reconcile", "show", report["id"]) == report
    [entry] = waylink.json("audit", "--action", "reconciliation.requested")
    assert (entry["subject"], entry["actor"][:4]) == (report["id"], "cli:")


def test_without_wait_it_only_asks_and_one_runs_at_a_time(waylink):
    done = waylink.inside("reconcile", "--json")
    [report] = json.loads(done.stdout)
    assert (done.returncode, report["stage"], report["started_at"]) == (0, "listing", None)
    again = waylink.inside("reconcile", "--json")
    assert (json.loads(again.stdout)[0]["id"], again.returncode) == (report["id"], 0)
    assert f"{report['id']} of environment 'default' is under way" in again.stderr
    assert "under way" in one_line_error(waylink.inside("reconcile", "--dry-run"), 1)


def test_a_run_that_fails_exits_1_with_its_reason(waylink, impatient):
    waylink.variables["WAYLINK_NANGO_API_KEY"] = "4d70f328-6b39-451e-b92f-000000000000"
    done = waylink.inside("reconcile", "--wait", "--json")
    [report] = json.loads(done.stdout)
    assert (done.returncode, report["outcome"]) == (1, "failed")
    assert "API key" in report["problem"]
    status = {check["name"]: check for check in json.loads(waylink.inside("status", "--json").stdout)}
    assert (status["reconcile default"]["level"], status["reconcile default"]["value"]) == ("red", "failed")
    assert "API key" in status["reconcile default"]["cause"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--environment", "nowhere"], 2, "'nowhere'"),
        (["show", "rec_nonsense"], 2, "rec_nonsense"),
        (["show", show(RECONCILIATION, new_id())], 1, "no reconciliation"),
        (["list", "--before", "x"], 2, "'x'"),
    ],
    ids=["environment", "id", "unknown", "cursor"],
)
def test_bad_input_is_one_line(waylink, arguments, code, words):
    assert words in one_line_error(waylink.inside("reconcile", *arguments), code)


def test_signing_keys_alone_have_no_list_to_compare_with(waylink):
    del waylink.variables["WAYLINK_NANGO_API_KEY"]
    assert "no list to compare with" in one_line_error(waylink.inside("reconcile"), 2)
    assert "reconcile:default" not in waylink.inside("status", "--json").stdout


@pytest.mark.parametrize("every", ["1m", "soon", "-1h"])
def test_a_period_that_cannot_be_is_refused(waylink, every):
    waylink.variables["WAYLINK_RECONCILE_EVERY"] = every
    assert "WAYLINK_RECONCILE_EVERY" in one_line_error(waylink.inside("reconcile"), 2)


def test_status_needs_a_person_when_none_completed_for_three_periods(waylink):
    def check():
        found = json.loads(waylink.inside("status", "--json").stdout)
        return next((check for check in found if check["id"] == "reconcile:default"), None)

    assert (check()["level"], check()["value"]) == ("ok", "never")
    now = datetime.now(UTC)
    with closing(connect(waylink.database_url)) as database:

        def add(at, **changes):
            with database.write() as session:
                run_id = rows.request(session, "default", trigger=Trigger.SCHEDULE, now=at)
                rows.save(session, replace(rows.get(session, run_id), **changes))

        add(now - timedelta(hours=2), finished_at=now, stage=Stage.DONE, outcome=RunOutcome.COMPLETED)
        assert (check()["level"], check()["value"]) == ("ok", "completed")
        waylink.variables["WAYLINK_RECONCILE_EVERY"] = "30m"
        assert check()["level"] == "red"
        add(now, next_at=now + RECHECK_AFTER)  # a running one is not a finished one
        assert (check()["level"], check()["value"]) == ("red", "listing")
    waylink.variables["WAYLINK_RECONCILE_EVERY"] = "0"
    assert check() is None
