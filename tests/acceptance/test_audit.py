"""The loss audit in a short form: while everything is killed, nothing is lost and nothing doubled (promise 1).

And the audit can fail: where a promise is broken, it says so.
"""

from contextlib import closing

import pytest
import uvloop

from app.db.engine import connect
from bench.audit import ROUTES, Course, audit, settle
from bench.audit_ledger import Ledger, verdict
from bench.audit_rows import read_rows
from bench.audit_sender import send, webhooks
from bench.product import QUEUE, product


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_nothing_is_lost_or_doubled_while_everything_is_killed(database: str) -> None:
    outcome = audit(Course(seconds=12, rate=40, seed=3, sqlite=database == "sqlite", hurry=True))
    assert not outcome.findings, outcome.report()
    assert len(outcome.ledger.acknowledged) > 100, outcome.report()
    assert {blow.kind for blow in outcome.blows} >= {"killed", "flushed", "restarted empty"}


def test_the_audit_finds_what_a_broken_promise_leaves_behind() -> None:
    ledger = Ledger()
    # Without a window the same bytes become two events; and the team's broker loses what it has accepted.
    with (
        product(("web", "events-1", "io-1", "beat"), ROUTES, sqlite=True, WAYLINK_DEDUPE_WINDOW_SECONDS="0") as running,
        closing(connect(running.database_url)) as database,
    ):
        uvloop.run(send(running.waylink.port, webhooks(seed=3, seconds=2, rate=40), ledger))
        settle(database, hurry=False)
        running.teams.flush()
        rows = read_rows(database, running.teams, QUEUE)
    found = {(finding.kind, finding.what) for finding in verdict(ledger, rows, ROUTES)}
    assert found == {
        ("doubled", "second event for the same bytes"),
        ("lost", "completed job that the team never got"),
    }
