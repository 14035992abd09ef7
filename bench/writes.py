"""PostgreSQL's writes for an event, from being stored to its job being delivered: row versions, index entries, WAL.

`python -m bench.writes [--quick]` runs it alone. Row versions are PostgreSQL's own counts. Index entries are counted in
the WAL, which has a record of each: so a partial index counts where its condition holds, and a heap-only update (HOT)
not at all. No checkpoint and no vacuum is in between, which would add pages and records of that moment.
"""

import argparse
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

from sqlalchemy import text

from app.db.engine import Database, connect
from bench.load import body
from bench.pipeline import pipeline, prepare, receive
from bench.processes import DurablePostgres, Failed, run
from bench.report import Figure, Report, figure
from tests.servers import ValkeyServer, _programs

FULL, QUICK, WARM_UP = 10_000, 4_000, 1_000  # events
ROW_GOAL, INDEX_GOAL, WAL_GOAL = 7, 15, 5.0  # per event; WAL in kB
QUIET_WITHIN: Final = 10.0  # seconds
COUNTS: Final = ("inserted", "updated", "heap-only", "deleted")
ROWS: Final = "SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del FROM pg_stat_user_tables"
POSITION: Final = "SELECT pg_current_wal_insert_lsn()::text, checkpoint_lsn::text FROM pg_control_checkpoint()"
BYTES: Final = "SELECT pg_wal_lsn_diff(CAST(:ended AS pg_lsn), CAST(:began AS pg_lsn))"
OTHERS: Final = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
# One of these for each new entry in a leaf; the few entries of the levels above have records of their own.
ENTRIES: Final = ("Btree/INSERT_LEAF", "Btree/INSERT_POST", "Btree/SPLIT_L", "Btree/SPLIT_R")
LOCKS: Final = "Heap/LOCK"
RECORD: Final = re.compile(r"^(\w+/[\w+]+) +(\d+) \(", re.MULTILINE)

Rows = Mapping[str, tuple[int, ...]]  # by table, in the order of COUNTS


class QuietPostgres(DurablePostgres):
    """Nothing writes but what is measured."""

    settings: ClassVar[Mapping[str, str]] = {
        **DurablePostgres.settings,
        "autovacuum": "off",
        "checkpoint_timeout": "1h",
        "max_wal_size": "8GB",
    }


@dataclass(frozen=True, slots=True)
class Position:
    """A moment of the WAL, the last checkpoint before it, and all row versions written until then."""

    lsn: str
    checkpoint: str
    rows: Rows


@dataclass(frozen=True, slots=True)
class Writes:
    """Those for `events` events; `records`: of the WAL, by kind."""

    events: int
    rows: Rows
    records: Mapping[str, int]
    wal_bytes: int


def measure(report: Report, *, quick: bool) -> None:
    with _servers() as (postgres, valkey), closing(connect(postgres.create_database())) as database:
        writes = _measured(database, postgres, valkey.url(1), QUICK if quick else FULL)
    report.figures |= figures(writes)
    report.tables.append(table(writes))


def figures(writes: Writes) -> dict[str, Figure]:
    written = {name: sum(counts[COUNTS.index(name)] for counts in writes.rows.values()) for name in COUNTS}
    versions = written["inserted"] + written["updated"] + written["deleted"]
    entries = sum(writes.records.get(kind, 0) for kind in ENTRIES)
    by, of = writes.events, "pipeline, postgresql, per event"
    return {
        f"{of}: row writes": figure(versions / by, "rows", at_most=ROW_GOAL),
        f"{of}: heap-only updates of them": figure(written["heap-only"] / by, "rows"),
        f"{of}: row locks": figure(writes.records.get(LOCKS, 0) / by, "rows"),
        f"{of}: index entries": figure(entries / by, "entries", at_most=INDEX_GOAL),
        f"{of}: WAL": figure(writes.wal_bytes / by / 1000, "kB", at_most=WAL_GOAL),
    }


def table(writes: Writes) -> str:
    """Row versions per event, by table."""
    lines = [f"{'rows per event':24}" + "".join(f"{name:>12}" for name in COUNTS)]
    for name, counts in sorted(writes.rows.items()):
        if any(counts):
            lines.append(f"{name:24}" + "".join(f"{count / writes.events:12.3f}" for count in counts))
    return "\n".join(lines)


def records_in(statistics: str) -> dict[str, int]:
    """The number of records of each kind, in what `pg_waldump --stats=record` prints."""
    return {kind: int(count) for kind, count in RECORD.findall(statistics)}


@contextmanager
def _servers() -> Iterator[tuple[QuietPostgres, ValkeyServer]]:
    with ExitStack() as stack:
        postgres, valkey = QuietPostgres(), ValkeyServer()
        for server in (postgres, valkey):
            stack.callback(server.close)
            server.start()
        yield postgres, valkey


def _measured(database: Database, postgres: QuietPostgres, teams: str, count: int) -> Writes:
    prepare(database)
    for number in (WARM_UP, count):
        receive(database, [body(str(uuid.uuid4())) for _ in range(number)])
        before = _position(database)
        work = pipeline(database, teams=teams)
        jobs = work.work_off()
        work.finish()  # its loop holds a session for as long as it runs
        if jobs != number:
            raise Failed(f"{jobs} jobs were delivered for {number} events")
    after = _position(database)
    if before.checkpoint != after.checkpoint:
        raise Failed("a checkpoint came in between")
    nothing = (0,) * len(COUNTS)
    rows = {
        name: tuple(new - old for new, old in zip(counts, before.rows.get(name, nothing), strict=True))
        for name, counts in after.rows.items()
    }
    with database.read() as session:
        wal_bytes = session.execute(text(BYTES), {"began": before.lsn, "ended": after.lsn}).scalar_one()
    return Writes(count, rows, _records(postgres, before.lsn, after.lsn), int(wal_bytes))


def _position(database: Database) -> Position:
    """Once all of the pool's sessions have ended: by then each has told its counts."""
    database.close()
    give_up = time.monotonic() + QUIET_WITHIN
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(text(OTHERS)).scalar_one():
            if time.monotonic() > give_up:
                raise Failed("a session of the database does not end")
            time.sleep(0.05)
        lsn, checkpoint = connection.execute(text(POSITION)).one()
        rows = {name: tuple(counts) for name, *counts in connection.execute(text(ROWS))}
    return Position(lsn, checkpoint, rows)


def _records(postgres: QuietPostgres, began: str, ended: str) -> dict[str, int]:
    # It is read from the disk, where a commit that did not wait may not have arrived.
    postgres.administer("SELECT pg_logical_emit_message(true, 'bench', 'all before this is on the disk')")
    place = ["--path", str(postgres._data / "pg_wal"), "--start", began, "--end", ended]
    return records_in(run([str(_programs() / "pg_waldump"), "--stats=record", *place]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.writes", description="Count what PostgreSQL writes for an event.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events")
    report = Report()
    measure(report, quick=parser.parse_args().quick)
    report.print()


if __name__ == "__main__":
    main()
