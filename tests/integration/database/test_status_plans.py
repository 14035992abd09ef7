"""The status reads no large table as a whole: each statement is answered by a small index, or by a span of one."""

import json
import re
from datetime import timedelta

from pydantic import SecretStr
from sqlalchemy import event

from app.config.nango_environment import Environment, SigningKeys
from app.db import key_uses
from app.db.key_uses import KeyUse
from app.services.policy import Policy
from app.services.status import report
from app.services.status.installation import Installation
from tests.integration.status.rows import a_job, add, an_event, destination

LARGE = {
    "events",
    "jobs",
    "connections",
    "refreshes",
    "audit",
    "decisions",
    "attempts",
    "links",
    "repairs",
    "differences",
}
# Partial indexes that stay small in a large table.
SMALL = {
    "ix_events_due", "ix_events_failed_at", "ix_jobs_ready", "ix_jobs_held", "ix_jobs_parked", "ix_jobs_discarded_at",
    "ix_audit_begun", "ix_connections_needs_reconnect", "ix_connections_alive", "ix_refreshes_late", "ix_refreshes_due",
    "uq_refreshes_open",
}  # fmt: skip
OLDEST = "ORDER BY events.id"  # with a limit of 1: the first row of the primary key


def statements_of_the_status(database, clock):
    found = []

    def note(_connection, _cursor, sql, parameters, _context, _many):
        if sql.startswith(("SELECT", "WITH")):
            found.append((sql, parameters))

    api = Environment("default", "http://127.0.0.1:1", "acme", SigningKeys((SecretStr("k"),)), api_key=SecretStr("k"))
    installation = Installation(
        policy=Policy({"default": api}), reconcile_every=timedelta(hours=1), nango_requests_per_minute=100
    )
    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as session:
            report.read(session, installation, dialect=database.engine.dialect.name, now=clock.now)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    return found


def nodes(plan):
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def whole_reads_on_postgresql(connection, sql, parameters):
    """Nodes that read a large table without a condition on an index, or a small one."""
    # The tables are small, and then PostgreSQL reads them as a whole.
    connection.exec_driver_sql("SET enable_seqscan = off")
    told = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters).scalar()
    [root] = json.loads(told) if isinstance(told, str) else told
    for node in nodes(root["Plan"]):
        if node.get("Relation Name") in LARGE and "Index Cond" not in node and node.get("Index Name") not in SMALL:
            bitmap = [inner for inner in node.get("Plans", ()) if inner.get("Index Name") in SMALL]
            if not bitmap and "Recheck Cond" not in node:
                yield node


def whole_reads_on_sqlite(connection, sql, parameters):
    for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters):
        found = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", row[3])
        if found and found[1] in LARGE and found[2] not in SMALL:
            yield row[3]


def test_no_check_reads_a_large_table_as_a_whole(database, clock):
    now = clock.now
    source = an_event(now, state="failed", processed_at=now)
    add(
        database,
        source,
        destination("crm", "jobs", disabled_at=now),
        a_job(now, source.id, state="discarded", finished_at=now),
        a_job(now, source.id, blocked_by="disabled"),
    )
    with database.write() as session:
        key_uses.add(session, [KeyUse("default", "0123abcd", 1)], now=now - timedelta(days=1))
    statements = statements_of_the_status(database, clock)
    # Of the figures, of what is counted for one destination, and of three spans of four weeks each.
    assert sum("FROM events" in sql for sql, _ in statements) >= 12
    assert sum("jobs" in sql for sql, _ in statements) >= 5
    whole = whole_reads_on_sqlite if database.is_sqlite else whole_reads_on_postgresql
    with database.engine.connect() as connection:
        for sql, parameters in statements:
            if OLDEST in sql and "LIMIT" in sql and "WHERE" not in sql:
                continue
            assert not list(whole(connection, sql, parameters)), sql


def test_the_search_finds_what_it_is_for(database):
    whole = whole_reads_on_sqlite if database.is_sqlite else whole_reads_on_postgresql
    with database.engine.connect() as connection:
        for sql in ("SELECT count(*) FROM events", "SELECT id FROM jobs WHERE name = 'x'"):
            assert list(whole(connection, sql, ())), sql
        assert not list(whole(connection, "SELECT count(*) FROM teams", ()))
