"""`waylink refreshes …`: renewals, and what providers document of their tokens."""

import io
import json
import re
from contextlib import closing
from datetime import date, timedelta
from unittest import mock
from uuid import UUID

import pytest
from rich.console import Console

from app.cli import output
from app.clock import utc_now
from app.config.provider_catalogue import shipped_catalogue
from app.db import connections, refreshes
from app.db.connections import ConnectionKey
from app.db.engine import connect
from app.db.refreshes import ManualRefreshRow
from app.domain.refreshing.plan import Plan
from app.domain.states import RefreshOutcome
from app.ids import CONNECTION, show
from tests.integration.cli.test_cli import Command


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path, {})


def test_the_catalogue_is_shown_with_source_and_date_and_needs_no_database(command: Command):
    rows = json.loads(command.inside("refreshes", "catalogue", "--json").stdout)
    assert len(rows) == len(shipped_catalogue().lines)
    assert all(row["source"].startswith("https://") and date.fromisoformat(row["read"]) for row in rows)
    [zendesk] = [row for row in rows if row["names"] == ["zendesk"]]
    assert (zendesk["access_life"], zendesk["refresh_life"], zendesk["rotates"]) == ("30m", "30d", True)


def test_a_line_of_the_catalogue_fits_a_terminal_of_80_columns(command: Command, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(output, "_console", lambda: Console(width=80, file=written, highlight=False))
    with mock.patch("sys.stdout", new=io.StringIO()):
        command.inside("refreshes", "catalogue")
    lines = written.getvalue().splitlines()
    assert len(lines) == len(shipped_catalogue().lines) + 1  # each on one line
    assert max(map(len, lines)) <= 80


def test_one_provider_is_shown_by_its_name_at_nango(command: Command):
    shown = command.inside("refreshes", "catalogue", "google-mail").stdout
    assert "180d" in shown
    assert "https://developers.google.com/" in shown
    unknown = command.inside("refreshes", "catalogue", "nonsense")
    assert (unknown.returncode, unknown.stderr) == (1, "error: no provider in the catalogue 'nonsense'\n")


def test_a_listing_of_renewals_is_empty_where_there_are_none(command: Command):
    assert command.inside("migrate").returncode == 0
    assert command.json("refreshes") == command.json("refreshes", "list", "--state", "open") == []


UUIDS = [f"7f9c2ba4-e88f-427d-a1b2-00000000000{number}" for number in range(4)]
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def planned(request, command: Command) -> dict[str, UUID]:
    """Four connections whose plans are overdue, due, soon and in ten days, and a past renewal of the last."""
    if request.param == "postgresql":
        command.variables["WAYLINK_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    assert command.inside("migrate").returncode == 0
    now = utc_now()
    rows = [connections.new(ConnectionKey("default", "google-mail", name), now=now) for name in UUIDS]
    for row, span in zip(rows, (-9 * MINUTE, -MINUTE, 5 * MINUTE, 10 * DAY), strict=True):
        row.status, row.provider, row.expires_at = "active", "google", now + span + 14 * MINUTE
    rows[0].grant_expires_at = now + DAY
    with closing(connect(command.database_url)) as database, database.write() as session:
        connections.insert(session, rows)
        plans = {row.id: Plan(row.expires_at - 14 * MINUTE, forced=False, reason="in time") for row in rows}
        refreshes.plan(session, plans, now=now)
        done = ManualRefreshRow(
            connection_ref=rows[3].id,
            requested_by="cli:root",
            forced=True,
            reason="asked for",
            asked_at=now,
            answered_at=now,
            outcome=RefreshOutcome.FAILED,
            error="the provider refused it",
            previous_expires_at=None,
            expires_at=None,
            previous_grant_expires_at=None,
            grant_expires_at=now + DAY,
        )
        refreshes.add_manual(session, done, now=now)
    return {row.connection_id: row.id for row in rows}


def listed(command: Command, *options: str) -> list[str]:
    return [row["connection_id"] for row in command.json("refreshes", *options)]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--state", "open"), UUIDS),
        (("--state", "due"), UUIDS[:2]),
        (("--state", "overdue"), UUIDS[:1]),
        (("--state", "finished"), UUIDS[3:]),
        (("--due-before", "1h"), UUIDS[:3]),
        (("--due-after", "1d", "--integration", "google-mail"), UUIDS[3:]),
        (("--deadline-before", "18m", "--provider", "google"), UUIDS[:2]),
        (("--outcome", "failed"), UUIDS[3:]),
        (("--user", "nobody"), []),
    ],
)
def test_renewals_are_listed_by_state_moment_and_outcome(command, planned, options, wanted):
    assert listed(command, *options) == wanted


def test_a_list_of_plans_goes_on_behind_a_row(command, planned):
    first = command.inside("refreshes", "--state", "open", "--limit", "2", "--json")
    rows = json.loads(first.stdout)
    assert f"--before {rows[-1]['id']} goes on" in first.stderr
    assert listed(command, "--state", "open", "--before", rows[-1]["id"]) == UUIDS[2:]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("refreshes", "--state", "finished", "--due-before", "1h"), "leaves nothing"),
        (("refreshes", "--due-before", "soon"), "expected in how long, such as 7d"),
        (("refreshes", "--state", "odd"), "odd"),
        (("refreshes", "show", "ref_nonsense"), "expected ref_"),
        (("connections", "--expires-before", "2026-11-25"), "with its zone"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line_and_exit_code_2(command, planned, arguments, told):
    done = command.inside(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.splitlines()[-1].lower().startswith("error: ")


def test_a_renewal_is_shown_by_its_id_and_by_its_connection_with_what_comes_next(command, planned):
    name = UUIDS[3]
    plan = command.json("refreshes", "show", name)
    assert plan == command.json("refreshes", "show", show(CONNECTION, planned[name]))
    assert (plan["state"], plan["next"]["why"], plan["next"]["id"]) == ("open", "in time", plan["id"])
    [past] = command.json("refreshes", "--state", "finished")
    shown = command.json("refreshes", "show", past["id"])
    assert (shown["outcome"], shown["requested_by"], shown["next"]) == ("failed", "cli:root", plan["next"])
    assert shown["asked_at"] == shown["answered_at"] == shown["finished_at"]
    assert (shown["previous_grant_expires_at"], shown["grant_expires_at"] is None) == (None, False)
    [line] = [
        line for line in command.inside("refreshes", "show", name).stdout.splitlines() if line.startswith("next  ")
    ]
    assert line.endswith(f"{plan['next']['at']}, open: in time")
    for unknown in (f"ref_{'0' * 32}", f"con_{'0' * 32}", "unknown"):
        assert command.inside("refreshes", "show", unknown).returncode == 1


def test_connections_are_listed_by_when_token_and_grant_lapse(command, planned):
    assert [row["connection_id"] for row in command.json("connections", "--expires-before", "1h")] == UUIDS[2::-1]
    assert [row["connection_id"] for row in command.json("connections", "--grant-before", "2d")] == UUIDS[:1]
    assert command.json("connections", "--grant-after", "2d", "--expires-after", "0s") == []
    assert command.json("connections", "--kept-alive") == []


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        (("refreshes",), ["connection id", "refresh at", "state"]),
        (("refreshes", "--state", "open"), ["connection id", "next at", "state", "integration"]),
        (("refreshes", "--state", "finished"), ["connection id", "finished at", "outcome"]),
        (("connections", "--expires-before", "1h"), ["connection id", "expires at", "status"]),
        (("connections", "--grant-before", "2d"), ["connection id", "grant expires at"]),
    ],
)
def test_a_listing_fits_a_terminal_of_80_columns_with_what_was_asked_for(
    command, planned, monkeypatch, arguments, columns
):
    monkeypatch.setattr(output, "_width", lambda: 80)
    heading, *rows = command.inside(*arguments).stdout.splitlines()
    assert [name.strip() for name in re.split(r" {2,}", heading)][: len(columns)] == columns
    assert rows
    assert all(len(line) <= 80 for line in (heading, *rows))
