"""The loss audit in a short form: while everything fails, nothing is lost and nothing doubled (promise 1).

And the audit can fail: where a promise is broken, it says so.
"""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
import uvloop

from app.db.engine import Database, connect, sqlite_file
from bench.audit import ROUTES, Course, audit, wait_until_finished
from bench.audit_ledger import Ledger, verdict
from bench.audit_recovery import stuck
from bench.audit_rows import broken_references, read_rows
from bench.audit_sender import send, webhooks
from bench.product import QUEUE, product
from tests.servers import know_tls

WITH_TLS = [pytest.mark.tls, pytest.mark.skipif(not know_tls(), reason="needs Debian's PostgreSQL and Redis")]
COURSE = Course(seconds=16, rate=40, seed=3, hurry=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "course",
    [
        pytest.param(COURSE, id="postgresql"),
        pytest.param(replace(COURSE, tls=True), id="postgresql with TLS", marks=WITH_TLS),
        pytest.param(replace(COURSE, sqlite=True), id="sqlite"),
    ],
)
def test_nothing_is_lost_or_doubled_while_everything_fails(course: Course) -> None:
    outcome = audit(course)
    assert not outcome.findings, outcome.report()
    assert len(outcome.ledger.acknowledged) > 100, outcome.report()


def test_the_audit_finds_what_a_broken_promise_leaves_behind() -> None:
    ledger = Ledger()
    names = ("web-1", "events-1", "io-1", "beat")
    # Without a window the same bytes become two events; and the team's broker loses what it has accepted.
    with (
        product(names, ROUTES, sqlite=True, WAYLINK_DEDUPE_WINDOW_SECONDS="0") as running,
        closing(connect(running.database_url)) as database,
    ):
        uvloop.run(send(running.web_ports.values(), webhooks(seed=3, seconds=2, rate=40), ledger))
        wait_until_finished(database, hurry=False)
        running.teams.flush()
        with running.processes["io-1"].standing_still():
            findings = stuck(running, database, ledger, within=30)
        wait_until_finished(database, hurry=False)
        rows = read_rows(database, running.teams, QUEUE)
        _unlink_an_event(database)
        findings += broken_references(database)
    found = {(finding.kind, finding.what) for finding in [*findings, *verdict(ledger, rows, ROUTES)]}
    assert found == {
        ("doubled", "second event for the same bytes"),
        ("lost", "completed job that the team never got"),
        ("stuck", "io-1 does no work"),
        ("broken", "events.connection_ref"),
    }


def _unlink_an_event(database: Database) -> None:
    """An event names a connection that is not there, past SQLite's foreign keys."""
    file = sqlite_file(database.engine.url.render_as_string(hide_password=False))
    assert file is not None
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE events SET connection_ref = ? WHERE id = (SELECT max(id) FROM events)", ("0" * 32,))
