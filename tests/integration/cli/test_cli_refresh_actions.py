"""`waylink refreshes run|pause|resume|paused|sweep`."""

import io
import json
from contextlib import closing
from datetime import timedelta
from unittest import mock

import pytest

from app.clock import utc_now
from app.db import connections, refreshes
from app.db.connections import ConnectionKey
from app.db.engine import connect
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.sweeping import REASON
from tests.integration.cli import test_cli_connections
from tests.integration.cli.test_cli import Command, one_line_error
from tests.integration.sandbox.sandbox_server import control

command, known = test_cli_connections.command, test_cli_connections.known  # fixtures
MINUTE = timedelta(minutes=1)


def by_hand(command: Command, connection: str) -> list[dict]:
    rows = command.json("refreshes", "--state", "finished", "--connection-id", connection)
    return [row for row in rows if row["requested_by"]]


def test_a_plan_is_carried_out_at_once_and_plainly(command, nango, known):
    control(nango, known, "oauth2", expires_in=3600)
    [plan] = command.json("refreshes", "--state", "open")
    assert command.json("refreshes", "run", plan["id"])["outcome"] == "first_seen"
    again = command.json("refreshes", "run", known)
    assert again["outcome"] == "unchanged"  # its expiry is far, and it is not forced
    last, first = by_hand(command, known)
    assert (first["forced"], last["forced"], last["outcome"]) == (False, False, "unchanged")
    assert command.json("refreshes", "run", known, "--force")["outcome"] == "renewed"
    assert by_hand(command, known)[0]["forced"]
    acts = [act["detail"]["forced"] for act in command.json("audit", "--action", "connection.refreshed")]
    assert acts == [True, False, False]


def test_a_refresh_that_is_over_is_not_carried_out_again(command, known):
    [plan] = command.json("refreshes", "--state", "open")
    assert command.json("refreshes", "run", plan["id"])["outcome"] == "first_seen"
    told = one_line_error(command.inside("refreshes", "run", plan["id"]), 1)
    assert plan["connection"] in told
    one_line_error(command.inside("refreshes", "run", "ref_x"), 2)
    one_line_error(command.inside("refreshes", "run", f"ref_{'0' * 32}"), 1)


def test_integrations_are_paused_listed_and_resumed(command, known):
    assert command.json("refreshes", "paused") == []
    done = command.json("refreshes", "pause", "default/oauth2", "--reason", "the provider asked for it")
    assert done == [{"environment": "default", "integration": "oauth2", "result": "paused", "why": None}]
    done = command.inside("refreshes", "resume", "default/oauth2")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        command.inside("refreshes", "pause", "default/oauth2", "--reason", "the provider asked for it").returncode == 0
    )
    [row] = command.json("refreshes", "paused", "--environment", "default")
    assert (row["integration"], row["cause"], row["reason"]) == ("oauth2", "operator", "the provider asked for it")
    assert "oauth2" in command.inside("refreshes", "paused").stdout
    again = command.inside("refreshes", "pause", "default/oauth2", "default/unknown", "--json")
    assert again.returncode == 1
    assert [one["result"] for one in json.loads(again.stdout)] == ["left alone", "left alone"]
    [resumed] = command.json("refreshes", "resume", "default/oauth2")
    assert (resumed["result"], resumed["released"]) == ("resumed", 0)
    refused = command.inside("refreshes", "resume", "default/oauth2")
    assert (refused.returncode, "left alone" in refused.stdout) == (1, True)
    assert {act["action"] for act in command.json("audit", "--subject", "default/oauth2")} == {
        "refreshes.paused",
        "refreshes.resumed",
    }


def test_an_integration_is_named_with_its_environment(command):
    for act in ("pause", "resume"):
        assert "ENVIRONMENT/NAME" in one_line_error(command.inside("refreshes", act, "hubspot"), 2)


@pytest.fixture
def several(command) -> list[str]:
    """Six connections of the integration `zoho`, the first with a plan."""
    now = utc_now()
    rows = [connections.new(ConnectionKey("default", "zoho", f"z-{number}"), now=now) for number in range(6)]
    for row in rows:
        row.status, row.auth_mode = "active", "OAUTH2"
    rows[5].not_refreshable = "no refresh token"
    with closing(connect(command.database_url)) as database, database.write() as session:
        connections.insert(session, rows)
        refreshes.plan(session, {rows[0].id: Plan(now + MINUTE, forced=False, reason="soon")}, now=now)
    return [row.connection_id for row in rows]


def planned(command: Command) -> list[str]:
    rows = command.json("refreshes", "--state", "open", "--integration", "zoho")
    return [row["connection_id"] for row in rows if row["reason"] == REASON]


@pytest.mark.parametrize("command", ["sqlite", "postgresql"], indirect=True)
def test_a_sweep_is_previewed_agreed_to_and_planned_once(command, several):
    act = ("refreshes", "sweep", "zoho", "--within", "2h")
    shown = command.inside(*act, "--dry-run")
    assert shown.returncode == 0
    assert "5 connections within 2 hours" in shown.stderr
    assert "calls a minute; refreshes may make 80" in shown.stderr
    assert "1 left out: nothing renews them" in shown.stderr
    with mock.patch("sys.stdin", io.StringIO("n\n")):
        refused = command.inside(*act)
    assert (refused.returncode, "nothing was changed" in refused.stderr) == (1, True)
    assert planned(command) == []
    done = command.json(*act, "--yes")
    assert done == {"planned": 5, "left_alone": 0, "more": False, "stopped": False}
    assert planned(command) == [f"z-{number}" for number in range(5)]
    assert command.json(*act, "--yes")["planned"] == 0
    again = command.json(*act, "--dry-run")
    assert (again["dry_run"], again["count"], again["swept_before"]) == (True, 0, 5)
    [audited] = command.json("audit", "--action", "refreshes.swept")
    assert (audited["subject"], audited["detail"]["count"]) == ("default/zoho", 5)


def test_a_sweep_that_the_budget_does_not_allow_says_how_long_it_takes(command, several):
    command.variables["WAYLINK_NANGO_REQUESTS_PER_MINUTE"] = "2"
    told = command.inside("refreshes", "sweep", "zoho", "--within", "1m", "--dry-run").stderr
    assert "5.0 calls a minute; refreshes may make 1" in told
    assert "it takes 5 minutes" in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("zoho", "--within", "soon"), 2, "expected a duration"),
        (("zoho", "--within", "1s"), 2, "from 1m to 30d"),
        (("zoho",), 2, "--within"),
        (("unknown", "--within", "1h"), 1, "no integration with connections"),
    ],
)
def test_what_cannot_be_swept_is_one_line(command, several, arguments, code, words):
    done = command.inside("refreshes", "sweep", *arguments, "--yes")
    assert done.returncode == code
    assert words in done.stderr.splitlines()[-1]
    assert planned(command) == []
