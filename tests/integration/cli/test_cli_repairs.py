"""`waylink connections repairs`, and the same over the API."""

from contextlib import closing
from datetime import timedelta

from app.clock import utc_now
from app.db import connections, repairs
from app.db.connections import ConnectionKey
from app.db.engine import connect
from app.domain.repairs import RepairEnd
from tests.integration.api import test_api_connections
from tests.integration.cli import test_cli_connections

command, waylink = test_cli_connections.command, test_api_connections.waylink  # fixtures


def open_and_close(session, hours):
    """Cases that took so long each, of connections that failed so long; None: it is open."""
    now = utc_now()
    for number, took in enumerate(hours):
        failed_at = now - timedelta(hours=took or 1)
        row = connections.new(ConnectionKey("default", "crm", f"c-{number}"), now=failed_at)
        row.failing_since = failed_at
        connections.insert(session, [row])
        repairs.open_case(session, row, cause="token_expired", now=failed_at)
        if took is not None:
            repairs.close(session, {row.id: RepairEnd.REAUTHORIZED}, now=now)


def test_the_times_to_a_repair_are_shown_by_integration(command):
    assert command.json("connections", "repairs") == []
    with closing(connect(command.database_url)) as database, database.write() as session:
        open_and_close(session, [*range(1, 11), None])
    [row] = command.json("connections", "repairs", "--since", "7d", "--environment", "default")
    assert (row["integration"], row["repaired"], row["open"], row["deleted"]) == ("crm", 10, 1, 0)
    assert (row["p50_seconds"], row["p90_seconds"], row["p50"], row["p90"]) == (
        5 * 3600,
        9 * 3600,
        "5 hours",
        "9 hours",
    )
    assert "crm" in command.inside("connections", "repairs").stdout
    assert command.json("connections", "repairs", "--environment", "other") == []


def test_the_api_shows_the_same(waylink):
    with waylink.api.database.write() as session:
        open_and_close(session, [2, 4])
    [row] = waylink.api.json("/repairs?days=7&environment=default", who="viewer")["data"]
    assert (row["integration"], row["repaired"], row["p50_seconds"], row["p90_seconds"]) == ("crm", 2, 7200, 14_400)
    assert waylink.api.json("/repairs?environment=other", who="viewer") == {"data": []}
