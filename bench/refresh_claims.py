"""Claims of due refreshes at 10 thousand and 10 million open plans, and refreshes per second of one io process.

`python -m bench.refresh_claims [--quick]` runs it alone, on a private PostgreSQL over TCP. Half of the plans are due, a
tenth of them urgent; a tenth waits after a failure, with a deadline that has passed. Connections have their primary key
alone: a claim reads them by nothing else, and to keep all of their indexes would take most of the time of filling.
The refreshes renew tokens of the sandbox over HTTP, in a process that does what an io worker's task does.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import Connection, text

from app.clock import utc_now
from app.config.nango_environment import Environment, SigningKeys
from app.db import refreshes as refresh_rows
from app.db.bounded_connection import unbounded
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.db.models import Base
from app.deadlines import REFRESH_LEASE
from app.runtime.interpreter import collect_rarely
from app.sandbox.entities import SandboxConnection, SavedState
from app.sandbox.statefile import write
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.refreshing.planned import refresher_of
from app.services.routing.cache import RouteCache
from bench.load import KEY
from bench.pipeline import API_KEY
from bench.processes import python, run_json, serving
from bench.reconcile import account
from bench.report import Figure, Report, figure, progress, ratio
from bench.scale import FilledPostgres
from tests.ports import free_port

SIZES: Final = {10_000: "10 thousand", 10_000_000: "10 million"}  # open plans
QUICK_SIZES: Final = {10_000: "10 thousand", 200_000: "200 thousand"}
CLAIMED, ROUNDS = 500, 9
RATIO_GOAL, MILLISECONDS_GOAL, RATE_GOAL = 3.0, 20.0, 50.0
RENEWED, QUICK_RENEWED = 3000, 600  # connections


@dataclass(slots=True)
class Filled:
    """One filled database, and the milliseconds of each claim. server: processor time of the server's process."""

    database: Database
    claims: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)

    def claim(self) -> None:
        """Take a claim's time, and the server's processor time for it."""
        with self.database.engine.connect() as connection:
            server = int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)
        used, began = _milliseconds(server), time.perf_counter()
        with self.database.write() as session:  # the pool gives the same connection
            taken = refresh_rows.claim(session, limit=CLAIMED, now=utc_now(), lease=REFRESH_LEASE)
        self.claims.append((time.perf_counter() - began) * 1000)
        self.server.append(_milliseconds(server) - used)
        if len(taken) != CLAIMED:
            raise AssertionError(f"claimed {len(taken)}")


def measure(report: Report, *, quick: bool) -> None:
    """The claims of each size in turn, so that all of them meet the same machine; then the refreshes."""
    with _server() as postgres:
        with report.part("claims of refreshes"):
            report.figures |= _claims(postgres, QUICK_SIZES if quick else SIZES)
        with report.part("refreshes of one process"):
            report.figures |= _refreshes(postgres, QUICK_RENEWED if quick else RENEWED)


def _milliseconds(process: int) -> float:
    """Processor time of a process so far, by the kernel's scheduler (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e6


@contextmanager
def _server() -> Iterator[FilledPostgres]:
    postgres = FilledPostgres()
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.close()


def _claims(postgres: FilledPostgres, sizes: Mapping[int, str]) -> Mapping[str, Figure]:
    with ExitStack() as stack:
        filled = {}
        for size, name in sizes.items():
            database = stack.enter_context(closing(connect(postgres.create_database())))
            began = time.monotonic()
            fill(database, size)
            filled[size] = Filled(database)
            progress(f"{name} plans filled in {time.monotonic() - began:.0f} s")
        collect_rarely()  # as workers do
        for one in filled.values():
            one.claim()  # the first reads the catalogue and prepares the statements
        for _ in range(ROUNDS):
            for one in filled.values():
                one.claim()
    found: dict[str, Figure] = {}
    for size, one in filled.items():
        what = f"claim of {CLAIMED} refreshes of {sizes[size]} plans"
        claims, server = one.claims[1:], one.server[1:]
        found |= {
            what: figure(statistics.median(claims), "ms", at_most=MILLISECONDS_GOAL),
            f"{what}, quickest": figure(min(claims), "ms"),
            f"{what}, CPU of the server": figure(statistics.median(server), "ms"),
            f"{what}, CPU of the server, least": figure(min(server), "ms"),
        }
    most, fewest = filled[max(filled)], filled[min(filled)]
    grown, used = ratio(most.claims[1:], fewest.claims[1:]), min(most.server[1:]) / min(fewest.server[1:])
    return found | {
        "claim of refreshes: most / fewest plans": figure(grown, "ratio", at_most=RATIO_GOAL),
        "claim of refreshes: most / fewest plans, CPU of the server": figure(used, "ratio", at_most=RATIO_GOAL),
    }


def fill(database: Database, count: int) -> None:
    """So many connections with an open plan each."""
    upgrade(database)
    with database.engine.connect() as connection:
        with connection.begin(), unbounded(connection):
            # Foreign keys hold by construction.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for index in (*_indexes("connections"), *_indexes("refreshes")):
                index.drop(connection)
            connection.execute(text("TRUNCATE connections, refreshes CASCADE"))
            connection.execute(text(_CONNECTIONS), {"count": count})
            connection.execute(text(_PLANS), {"count": count})
            for index in _indexes("refreshes"):
                index.create(connection)
        with connection.begin(), unbounded(connection):
            connection.execute(text("ANALYZE connections, refreshes"))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))


def _indexes(table: str) -> list[Any]:
    """The indexes of a table that are no constraints."""
    return list(Base.metadata.tables[table].indexes)


_CONNECTIONS: Final = """
INSERT INTO connections (id, environment, integration, connection_id, nango_id, provider, auth_mode, status, tags,
    tags_disagree, absences, created_at, updated_at, expires_at, expires_source, slot)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'default', 'oauth2', 'c-' || n, n, 'oauth2', 'OAUTH2', 'active',
    '{"end_user_id": "u"}', false, 0, now(), now(), now(), 'provider', n
FROM generate_series(1, :count) AS n
"""
# Ids are in the order of time, as Waylink's are, and plans in the order in which they become due, as they are made when
# the ones before them were carried out. Their connections are anywhere. Of ten plans five are due, one of these with
# haste; one waits though its token has expired, and four are not due.
_PLANS: Final = """
INSERT INTO refreshes (id, connection_ref, refresh_at, next_at, deadline_at, keeps, urgent_at, forced, reason, attempts,
    failures, created_at)
SELECT lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(1 + n::bigint * 7919 % :count), 32, '0')::uuid, due, due, deadline,
    CASE WHEN deadline IS NOT NULL THEN 'token' END,
    CASE WHEN deadline IS NOT NULL THEN greatest(due, deadline - interval '300 s') END,
    false, 'before the token expires', 0, 0, now()
FROM (SELECT n, due, CASE WHEN n % 5 = 0 AND due <= now() THEN due + interval '10 min'
        WHEN n % 5 = 0 THEN now() - interval '1 h' WHEN due > now() THEN due + interval '10 min' END AS deadline
    FROM (SELECT n, now() + interval '24 h' * (n::float / :count - 0.5) AS due
        FROM generate_series(1, :count) AS n) AS times) AS planned
"""


def _refreshes(postgres: FilledPostgres, count: int) -> Mapping[str, Figure]:
    """The rate at which due plans are carried out, from the first claim to the last record."""
    folder = Path(postgres.folder)
    state, port, url = folder / "refreshed.json", free_port(), postgres.create_database()
    write(state, _expiring(count))
    with closing(connect(url)) as database:
        upgrade(database)
        with database.engine.begin() as connection:
            _due(connection, count)
    sandbox = python("app.cli", "sandbox", "--port", port, "--api-key", API_KEY, "--signing-key", KEY)
    with serving([*sandbox, "--state-file", str(state)], {}, port, folder):
        told = run_json(python("bench.refresh_claims", "--database", url, "--sandbox", f"http://127.0.0.1:{port}"))
    if told["renewed"] != count:
        raise AssertionError(f"{told}")
    progress(f"refreshes: {told}")
    return {
        "refreshes of one io process": figure(count / told["seconds"], "refreshes/s", at_least=RATE_GOAL),
        "refreshes of one io process, CPU": figure(told["cpu"] / count * 1000, "ms/refresh"),
    }


def _expiring(count: int) -> SavedState:
    """Connections at the sandbox whose tokens expire within Nango's margin."""
    now = utc_now()
    saved = account(count, now=now)
    ends = (now + timedelta(minutes=5)).isoformat().replace("+00:00", "Z")
    given = {"type": "OAUTH2", "access_token": "t", "refresh_token": "r", "expires_at": ends, "raw": {}}
    return replace(saved, connections=tuple(_with(one, given) for one in saved.connections))


def _with(one: SandboxConnection, credentials: dict[str, Any]) -> SandboxConnection:
    return replace(one, credentials=credentials)


def _due(connection: Connection, count: int) -> None:
    """The same connections at Waylink, each with a due plan."""
    connection.execute(text("SET LOCAL session_replication_role = replica"))
    named = "lpad(to_hex(n), 8, '0') || '-0000-4000-8000-000000000000'"
    connection.execute(text(_CONNECTIONS.replace("'c-' || n", named)), {"count": count})
    ends = "now() + interval '5 min'"
    connection.execute(text(f"UPDATE connections SET expires_at = {ends}"))
    connection.execute(text(_PLANS), {"count": count})
    due = "next_at = now(), refresh_at = now(), keeps = 'token', urgent_at = now()"
    connection.execute(text(f"UPDATE refreshes SET {due}, deadline_at = {ends}"))


def work(url: str, sandbox: str) -> Mapping[str, Any]:
    """Carry out all that is due, as the task of an io worker does."""
    collect_rarely()
    keys = SigningKeys((SecretStr(KEY),))
    environment = Environment("default", sandbox, "bench", keys, api_key=SecretStr(API_KEY))
    policy = Policy({"default": environment})
    with closing(connect(url)) as database:
        clients = NangoClients(policy.environments)
        refresher = refresher_of(database, policy, clients, utc_now, RouteCache())
        began, used = time.perf_counter(), time.process_time()
        refresher.refresh_due(limit=sys.maxsize)
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        with database.engine.connect() as connection:
            outcomes = text("SELECT count(*) FROM refreshes WHERE outcome = 'renewed'")
            renewed = connection.scalar(outcomes)
        clients.close()
    return {"renewed": renewed, "seconds": seconds, "cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.refresh_claims")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--database")
    parser.add_argument("--sandbox")
    options = parser.parse_args()
    if options.database:
        print(json.dumps(work(options.database, options.sandbox)))
        return
    report = Report()
    measure(report, quick=options.quick)
    report.print()


if __name__ == "__main__":
    main()
