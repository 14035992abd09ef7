"""Whether an event costs the same when the tables have grown: ingest and pipeline at 10 thousand to 10 million events.

`python -m bench.scale [--quick]` runs it alone. Each size is a fresh PostgreSQL database, filled with copies of what
Waylink itself made of one event: ten events, one link and five jobs per connection. Then new webhooks come in, three
for new connections to one for a known connection, 200 at a time and to each size in turn, and each batch is processed
and delivered.
"""

import argparse
import hashlib
import shutil
import statistics
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import ClassVar, Final

from sqlalchemy import Connection, text

from app.db.bounded_connection import unbounded
from app.db.engine import Database, connect
from app.db.models import Base
from app.deadlines import BATCH
from app.runtime.interpreter import collect_rarely
from bench.load import body
from bench.pipeline import Pipeline, pipeline, prepare, receive
from bench.processes import DurablePostgres
from bench.report import Figure, Report, figure, progress, ratio
from tests.servers import ValkeyServer

SIZES: Final = {10_000: "10 thousand", 1_000_000: "1 million", 10_000_000: "10 million"}  # events
QUICK_LARGEST: Final = 1_000_000
FILL_WITHIN: Final = 900.0  # seconds; a size that is expected to take longer is left out
TELLING: Final = 100_000  # events from which on filling takes as long as there are rows
BYTES_PER_EVENT: Final = 3000  # on disk, with everything that belongs to it and some reserve
EVENTS_PER_CONNECTION, CONNECTIONS_PER_ORGANIZATION = 10, 100
WINDOW_ROWS: Final = 300_000  # the duplicate window keeps 150 s only: this is 2,000 events/s
BATCHES, QUICK_BATCHES, KNOWN_PER_BATCH = 20, 6, BATCH // 4
GOAL: Final = 1.5  # times the smallest


class FilledPostgres(DurablePostgres):
    """Set up so that loading millions of rows is quick and nothing goes on in the background afterwards."""

    owner_is = "LOGIN SUPERUSER"  # to turn checks off while rows are loaded
    settings: ClassVar[Mapping[str, str]] = {
        **DurablePostgres.settings,
        "shared_buffers": "1GB",
        "max_wal_size": "8GB",
        "wal_level": "minimal",  # rows of a table truncated in the same transaction are not logged
        "max_wal_senders": "0",
        "autovacuum": "off",
    }


@dataclass(frozen=True, slots=True)
class Copies:
    """Rows of one table that are copies of its first, but for some columns; `n` counts them from 0."""

    table: str
    count: int
    columns: Mapping[str, str] = field(default_factory=dict)  # SQL expressions of n


@dataclass(slots=True)
class Tables:
    """One filled database, and what its batches cost, in microseconds per event."""

    database: Database
    work: Pipeline
    connections: int
    fill_seconds: float
    ingest: list[float] = field(default_factory=list)
    pipeline: list[float] = field(default_factory=list)

    def batch(self, number: int) -> None:
        self.ingest.append(receive(self.database, _webhooks(number, self.connections)) * 1e6)
        began = time.perf_counter()
        self.work.work_off()
        self.pipeline.append((time.perf_counter() - began) / BATCH * 1e6)


def measure(report: Report, *, quick: bool) -> None:
    """Fill first, then a batch for each size in turn, so that all of them meet the same machine."""
    with _servers() as (postgres, valkey), ExitStack() as stack:
        filled: dict[int, Tables] = {}
        for size, name in SIZES.items():
            if quick and size > QUICK_LARGEST:
                break
            if reason := _too_large(size, filled):
                report.notes.append(f"{name} events are left out: {reason}")
                break
            with report.part(f"scale, {name} events"):
                database = stack.enter_context(closing(connect(postgres.create_database())))
                filled[size] = _filled(database, valkey.url(1), size)
                progress(f"{name} events filled in {filled[size].fill_seconds:.0f} s")
        collect_rarely()  # as workers do
        for number in range(QUICK_BATCHES if quick else BATCHES):
            for tables in filled.values():
                tables.batch(number)
    report.figures |= figures(filled)


def figures(filled: Mapping[int, Tables]) -> dict[str, Figure]:
    found = {}
    for size, tables in filled.items():
        found[f"ingest statement with {SIZES[size]} events"] = figure(statistics.median(tables.ingest), "µs/event")
        found[f"pipeline with {SIZES[size]} events"] = figure(statistics.median(tables.pipeline), "µs/event")
    if len(filled) < 2:
        return found
    least, most = filled[min(filled)], filled[max(filled)]
    found["flatness, largest table"] = figure(max(filled), "events")
    for what, grown in (
        ("ingest statement", ratio(most.ingest, least.ingest)),
        ("pipeline", ratio(most.pipeline, least.pipeline)),
    ):
        found[f"flatness, {what}: largest / smallest table"] = figure(grown, "ratio", at_most=GOAL)
    return found


@contextmanager
def _servers() -> Iterator[tuple[FilledPostgres, ValkeyServer]]:
    with ExitStack() as stack:
        postgres, valkey = FilledPostgres(), ValkeyServer()
        for server in (postgres, valkey):
            stack.callback(server.close)
            server.start()
        yield postgres, valkey


def _too_large(size: int, filled: Mapping[int, Tables]) -> str | None:
    needed = size * BYTES_PER_EVENT
    if shutil.disk_usage("/tmp").free < needed:
        return f"there are no {needed / 1e9:.0f} GB free in /tmp"
    largest = max(filled, default=0)
    if largest >= TELLING:
        expected = filled[largest].fill_seconds * size / largest
        if expected > FILL_WITHIN:
            return f"filling the tables would take {expected:.0f} s here"
    return None


def _filled(database: Database, teams: str, size: int) -> Tables:
    prepare(database)
    work = pipeline(database, teams=teams)
    receive(database, [body(str(uuid.uuid4()))])
    work.work_off()  # the rows that are copied
    began = time.monotonic()
    fill(database, size)
    return Tables(database, work, size // EVENTS_PER_CONNECTION, time.monotonic() - began)


def _webhooks(batch: int, connections: int) -> list[bytes]:
    """New connections, and known ones spread over the whole table, each of them once."""
    step = connections // (BATCHES * KNOWN_PER_BATCH)
    known = [(batch * KNOWN_PER_BATCH + number) * step for number in range(KNOWN_PER_BATCH)]
    new = [body(str(uuid.uuid4())) for _ in range(BATCH - KNOWN_PER_BATCH)]
    return new + [body(_connection_id(number), operation="override", tags=_tags(number)) for number in known]


def _connection_id(number: int) -> str:
    """The same as `md5(number::text)::uuid::text`."""
    return str(uuid.UUID(hashlib.md5(str(number).encode()).hexdigest()))


def _tags(number: int) -> dict[str, str]:
    organization = number // CONNECTIONS_PER_ORGANIZATION
    return {"end_user_id": f"u{number}", "organization_id": f"o{organization}", "plan": "pro"}


def fill(database: Database, events: int) -> None:
    """Replace what the database holds by `events` events and what belongs to them."""
    tables = _copies(events)
    with database.engine.connect() as connection:
        with connection.begin(), unbounded(connection):
            # Foreign keys hold by construction; checking each would take most of the time.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            names = ", ".join(table.table for table in tables)
            for table in tables:
                first = f"CREATE TEMP TABLE first_{table.table} AS SELECT * FROM {table.table} ORDER BY 1 LIMIT 1"
                connection.execute(text(first))
            connection.execute(text(f"TRUNCATE {names} CASCADE"))
            for table in tables:
                _copy(connection, table)
        with connection.begin(), unbounded(connection):
            connection.execute(text("ANALYZE"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))


def _copy(connection: Connection, copies: Copies) -> None:
    names = [column.name for column in Base.metadata.tables[copies.table].columns]
    values = [copies.columns.get(name, f"first.{name}") for name in names]
    connection.execute(
        text(
            f"INSERT INTO {copies.table} ({', '.join(names)}) SELECT {', '.join(values)} "
            f"FROM generate_series(0, {copies.count - 1}) AS n, first_{copies.table} AS first"
        )
    )


def _copies(events: int) -> Sequence[Copies]:
    connections = events // EVENTS_PER_CONNECTION
    organizations = connections // CONNECTIONS_PER_ORGANIZATION + 1
    # In the order of their ids, as rows arrive; the newest is as old as the oldest is at one event per millisecond.
    began = int(time.time() * 1000) - max(SIZES)

    def identity(number: str) -> str:
        return f"(lpad(to_hex({began} + ({number})), 12, '0') || '70008000' || lpad(to_hex({number}), 12, '0'))::uuid"

    def moment(number: str) -> str:
        return f"to_timestamp(({began} + ({number})) / 1000.0)"

    owner, organization = identity("n"), identity(f"n / {CONNECTIONS_PER_ORGANIZATION}")
    tags = (
        "jsonb_build_object('end_user_id', 'u' || n, 'organization_id', "
        f"'o' || n / {CONNECTIONS_PER_ORGANIZATION}, 'plan', 'pro')"
    )
    wanted = {"wanted_user": "'u' || n", "wanted_email": "NULL", "wanted_organization": "NULL"}
    job = {"id": identity("2 * n"), "event_id": identity("2 * n"), "created_at": moment("2 * n")}
    finished = {"state": "'completed'", "attempts": "1", "crashes": "0"}
    finished |= {"started_at": moment("2 * n"), "finished_at": moment("2 * n")}
    return (
        Copies("organizations", organizations, {"id": owner, "external_id": "'o' || n"}),
        Copies(
            "users",
            connections,
            {"id": owner, "external_id": "'u' || n", "organization_id": organization, "email": "NULL"},
        ),
        Copies(
            "connections",
            connections,
            {"id": owner, "connection_id": "md5(n::text)::uuid::text", "tags": tags, **wanted},
        ),
        Copies(
            "events",
            events,
            {
                "id": identity("n"),
                "received_at": moment("n"),
                "last_seen_at": moment("n"),
                "next_at": moment("n"),
                "processed_at": moment("n"),
                "connection_ref": identity(f"n / {EVENTS_PER_CONNECTION}"),
                "connection_id": f"md5((n / {EVENTS_PER_CONNECTION})::text)::uuid::text",
            },
        ),
        Copies(
            "links",
            connections,
            {
                "id": owner,
                "connection_ref": owner,
                "user_id": owner,
                "organization_id": organization,
                "event_id": identity(f"n * {EVENTS_PER_CONNECTION}"),
            },
        ),
        Copies("jobs", events // 2, {**job, **finished}),
        Copies(
            "deliveries",
            min(events, WINDOW_ROWS),
            {"fingerprint": "sha256(n::text::bytea)", "event_id": identity("n"), "first_at": "now()"},
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.scale", description="Measure flatness.")
    parser.add_argument("--quick", action="store_true", help="up to a million events")
    report = Report()
    measure(report, quick=parser.parse_args().quick)
    report.print()


if __name__ == "__main__":
    main()
