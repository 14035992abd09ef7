"""Server time of the status and of every list at ten million events, a million connections and a million jobs.

`python -m bench.listings [--quick]` runs it alone. Each list is read without a filter, with each single filter by what
most rows have and by what only the oldest have, and in the middle and at the end of its pages. PostgreSQL runs each
statement with EXPLAIN ANALYZE, and the time is its own, planning included: the least of three.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from app.config.nango_environment import Environment, SigningKeys
from app.db import audit, people
from app.db.audit import AuditFilters
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.db.people import PeopleFilters
from app.db.read import backlog, connection_listing, listing, queue_figures, refresh_listing, repair_times, searching
from app.db.read.listing import ListFilters
from app.db.read.refresh_listing import RefreshFilters
from app.domain.people import OwnerKind
from app.domain.states import AuditOutcome, RefreshState
from app.ids import EVENT, show
from app.search_input import read_search
from app.services.policy import Policy
from app.services.status import report
from app.services.status.installation import Installation
from bench.large_tables import fill
from bench.report import Figure, Report, figure, progress
from bench.scale import FilledPostgres

TIMES: Final = 3
GOAL: Final = 200.0  # ms
QUICK_SHARE: Final = 0.01
Read = Callable[[Session], object]


@dataclass(frozen=True, slots=True)
class Case:
    """A list as people ask for it."""

    what: str
    read: Read


@dataclass(slots=True)
class Statements:
    """Those of one session, with PostgreSQL's own time for each, in milliseconds."""

    milliseconds: float = 0.0
    slowest: float = 0.0
    sql: str = ""
    plan: str = ""


def measure(report_: Report, *, share: float) -> None:
    with ExitStack() as stack:
        postgres = FilledPostgres()
        stack.callback(postgres.close)
        postgres.start()
        database = stack.enter_context(closing(connect(postgres.create_database())))
        upgrade(database)
        now = datetime.now(UTC)
        fill(database, now=now, share=share)
        progress("filled")
        report_.figures |= figures(database, now)


def figures(database: Database, now: datetime, *, told: bool = False) -> dict[str, Figure]:
    """The slowest way to ask for each list."""
    worst: dict[str, tuple[float, str]] = {}
    for case in cases(database, now):
        found = min((timed(database, case.read) for _ in range(TIMES)), key=lambda one: one.milliseconds)
        if told:
            progress(f"{found.milliseconds:9.1f} ms  {case.what}")
        name = case.what.partition(",")[0]
        worst[name] = max(worst.get(name, (0.0, "")), (found.milliseconds, case.what))
    return {
        f"{what}, server time of the slowest": figure(milliseconds, "ms", at_most=GOAL)
        for what, (milliseconds, _) in worst.items()
    }


def timed(database: Database, read: Read) -> Statements:
    """Read once, and have PostgreSQL run each statement once more for its time."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, _many: Any) -> None:
        if sql.lstrip().startswith(("SELECT", "WITH")):
            seen.append((sql, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as session:
            read(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    total = Statements()
    with database.engine.connect() as connection:
        for sql, parameters in seen:
            told = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON) {sql}", parameters
            ).scalar_one()
            [plan] = json.loads(told) if isinstance(told, str) else told
            took = plan["Planning Time"] + plan["Execution Time"]
            total.milliseconds += took
            if took > total.slowest:
                total.slowest, total.sql, total.plan = took, sql, json.dumps(plan["Plan"], indent=1)
    return total


def cases(database: Database, now: datetime) -> Iterator[Case]:
    """Every list, by every way to ask for it."""
    yield Case("status", lambda session: status(session, now))
    yield from _events(database, now)
    yield from _searches(database, now)
    yield from _jobs(database, now)
    yield from _connections(database, now)
    yield from _refreshes(database, now)
    yield from _others(database, now)


def status(session: Session, now: datetime) -> object:
    api = Environment("default", "http://127.0.0.1:1", "acme", SigningKeys((SecretStr("k"),)), api_key=SecretStr("k"))
    installation = Installation(
        policy=Policy({"default": api}),
        canary_every=timedelta(seconds=15),
        reconcile_every=timedelta(hours=1),
        keep_events=timedelta(days=30),
        nango_requests_per_minute=100,
    )
    return report.read(session, installation, dialect="postgresql", now=now)


def _id(database: Database, table: str, share: float) -> UUID:
    """The id of the row after this share of the table, oldest first."""
    with database.read() as session:
        found = text(
            f"SELECT id FROM {table} ORDER BY id LIMIT 1 OFFSET (SELECT (count(*) * :share)::bigint FROM {table})"
        )
        return UUID(str(session.execute(found, {"share": share}).scalar_one()))


def _asked(what: str, read: Callable[[Session, Any], object], filters: Any) -> Case:
    return Case(what, lambda session: read(session, filters))


def _paged(
    database: Database, table: str, what: str, filters: Any, read: Callable[[Session, Any], object]
) -> Iterator[Case]:
    """The first page, one in the middle and the last one."""
    yield Case(f"{what}, first page", lambda session: read(session, filters))
    for where, share in (("middle", 0.5), ("last", 0.00005)):
        yield _asked(f"{what}, {where} page", read, replace(filters, before=_id(database, table, share)))


def _filtered(
    what: str, filters: Any, values: Mapping[str, tuple[Any, ...]], read: Callable[[Session, Any], object]
) -> Iterator[Case]:
    for name, wanted in values.items():
        for value in wanted:
            yield _asked(f"{what}, {name} {value}", read, replace(filters, **{name: value}))


def _events(database: Database, now: datetime) -> Iterator[Case]:
    values = {
        "state": ("received", "processed", "failed"),
        "type": ("connection.created", "connection.deleted", "none"),
        "origin": ("webhook", "operator", "system"),
        "environment": ("default", "rare", "none"),
        "integration": ("integration7", "rare", "none"),
        "connection_id": (_connection_id(database, 0.5), _connection_id(database, 0.00005), "none"),
        "team": ("team0", "none"),
        "since": (now - timedelta(days=31), now),
    }
    yield from _paged(database, "events", "events", ListFilters(limit=51, search=searching.AT_MOST), listing.events)
    yield from _filtered("events", ListFilters(limit=51, search=searching.AT_MOST), values, listing.events)


def _searches(database: Database, now: datetime) -> Iterator[Case]:
    """Each field of a search by what most events have, by what hardly any has, and by what none has."""
    connection, old = _connection_id(database, 0.5), show(EVENT, _id(database, "events", 0.00005))
    for text_ in (
        "type:connection.created", "type:connection.deleted", "type:token.expiring", "type:waylink",
        "type:nango.forward",
        "state:processed", "state:failed", "origin:operator", "environment:rare", "environment:none",
        "integration:integration7", "integration:rare", "integration:none",
        "provider:provider1", "provider:rare", "provider:none",
        f"connection:{connection}", "connection:none", f"id:{old}",
        "user:u77777", "user:u77777@people.example", "user:none", "organization:o77", "organization:none",
        "tag.plan:pro", "tag.plan:none", "tag.end_user_id:u5", f"tag.end_user_id:u{10**9}",
        connection, old, "u77777@people.example", "u77777", "o77", "confirmed", "nothing-says-this",
        "since:40d", "until:29d", "tag.plan:pro type:connection.deleted", "organization:o77 type:nango.sync",
        "organization:o77 type:token.expiring",
        "provider:rare tag.plan:pro", "integration:rare nothing-says-this", "tag.plan:pro nothing-says-this",
    ):  # fmt: skip
        asked = read_search(text_, now=now)
        filters = ListFilters(
            limit=51,
            search=searching.AT_MOST,
            query=asked.query,
            since=asked.since,
            until=asked.until,
            event_id=asked.event_id,
        )
        yield _asked(f"event search, {text_}", listing.events, filters)


def _jobs(database: Database, now: datetime) -> Iterator[Case]:
    values = {
        "state": ("available", "running", "retryable", "discarded", "cancelled", "completed"),
        "team": ("team0", "none"),
        "destination": ("jobs", "none"),
        "route": ("route1", "rare", "none"),
        "name": ("crm.import", "rare", "none"),
        "fault": ("team", "ours"),
        "event_id": (_id(database, "events", 0.5),),
        "since": (now - timedelta(days=31), now),
    }
    yield from _paged(database, "jobs", "jobs", ListFilters(limit=51, search=searching.AT_MOST), listing.jobs)
    yield from _filtered("jobs", ListFilters(limit=51, search=searching.AT_MOST), values, listing.jobs)
    yield Case("queues", lambda session: backlog.groups(session, backlog.destinations(session)))
    yield Case("queue figures", lambda session: queue_figures.destinations(session, now=now))


def _connections(database: Database, now: datetime) -> Iterator[Case]:
    values = {
        "status": ("active", "needs_reconnect", "deleted", "unconfirmed"),
        "environment": ("default", "rare", "none"),
        "integration": ("integration7", "rare", "none"),
        "connection_id": (_connection_id(database, 0.5), "none"),
        "user": ("u77777", "none"),
        "organization": ("o77", "none"),
        "unlinked": (True,),
        "drift": (True,),
        "duplicates": (True,),
        "kept_alive": (True,),
        "failing": (True,),
        "tags": ({"plan": "pro"}, {"end_user_id": "u5"}, {"plan": "none"}),
        "expires_before": (now, now - timedelta(days=1)),
        "expires_after": (now, now + timedelta(days=1)),
        "grant_before": (now + timedelta(days=7),),
        "grant_after": (now + timedelta(days=1),),
        "since": (now - timedelta(days=31), now),
    }
    yield from _paged(
        database,
        "connections",
        "connections",
        ListFilters(limit=51, search=searching.AT_MOST),
        connection_listing.connections,
    )
    yield from _filtered(
        "connections", ListFilters(limit=51, search=searching.AT_MOST), values, connection_listing.connections
    )


def _refreshes(database: Database, now: datetime) -> Iterator[Case]:
    values = {
        "state": tuple(RefreshState),
        "outcome": ("renewed", "rate_limited", "exhausted", "none"),
        "due_after": (now, now + timedelta(days=1)),
        "due_before": (now, now - timedelta(days=1)),
        "deadline_before": (now, now - timedelta(days=1)),
        "environment": ("default", "rare", "none"),
        "integration": ("integration7", "rare", "none"),
        "connection_id": (_connection_id(database, 0.5), "none"),
        "provider": ("provider1", "rare", "none"),
        "user": ("u77777", "none"),
        "organization": ("o77", "none"),
    }
    filters = RefreshFilters(now=now, limit=51, search=searching.AT_MOST_PLANS)
    yield Case("refreshes, first page", lambda session: refresh_listing.refreshes(session, filters))
    for share in (0.5, 0.25, 0.00005):
        after = replace(filters, after=_id(database, "refreshes", share))
        yield _asked(f"refreshes, page at {share}", refresh_listing.refreshes, after)
        if share < 0.5:
            due = replace(after, state=RefreshState.OPEN)
            yield _asked(f"refreshes, plans at {share}", refresh_listing.refreshes, due)
    yield from _filtered("refreshes", filters, values, refresh_listing.refreshes)
    yield Case("repairs", lambda session: repair_times.by_integration(session, since=now - timedelta(days=31)))


def _others(database: Database, now: datetime) -> Iterator[Case]:
    values = {
        "actor": ("token:app", "cli:rare", "none"),
        "action": ("connection.tags_set", "rare.done", "none"),
        "subject": ("con_5", "none"),
        "outcome": (*AuditOutcome,),
        "since": (now - timedelta(days=31), now),
    }
    yield from _paged(database, "audit", "audit", AuditFilters(limit=51, search=searching.AT_MOST), audit.listed)
    yield from _filtered("audit", AuditFilters(limit=51, search=searching.AT_MOST), values, audit.listed)
    for kind in OwnerKind:
        table = "users" if kind is OwnerKind.USER else "organizations"
        first = PeopleFilters(limit=51)

        def read(session: Session, filters: PeopleFilters, kind: OwnerKind = kind) -> object:
            return people.listing(session, kind, filters)

        found: dict[str, tuple[Any, ...]] = {
            "external_id": ("u77" if kind is OwnerKind.USER else "o77", "none"),
            "removed": (True,),
        }
        if kind is OwnerKind.USER:
            found |= {"email": ("u77@people.example", "none"), "organization": ("o77", "none")}
        yield from _paged(database, table, table, first, read)
        yield from _filtered(table, first, found, read)


def _connection_id(database: Database, share: float) -> str:
    with database.read() as session:
        found = text("SELECT connection_id FROM connections WHERE id = :id")
        return str(session.execute(found, {"id": _id(database, "connections", share)}).scalar_one())


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.listings", description="Measure lists on large tables.")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    report_ = Report()
    measure(report_, share=QUICK_SHARE if parser.parse_args().quick else 1.0)
    report_.print()


if __name__ == "__main__":
    main()
