"""Forecasts of refreshes at 100 thousand and a million connections, on a private PostgreSQL over TCP.

`python -m bench.refresh_forecasts [--quick]` runs it alone. Tokens of an hour, renewed one after the other, as at a
steady state. The time is from the first statement to the values that `waylink refreshes forecast` shows.
"""

import argparse
import time
from contextlib import closing
from typing import Final

from pydantic import SecretStr
from sqlalchemy import text

from app.clock import utc_now
from app.config.nango_environment import Environment, SigningKeys
from app.config.provider_catalogue import shipped_catalogue
from app.db.bounded_connection import unbounded
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.domain.refreshing.policy import RefreshPolicies
from app.services.policy import Policy
from app.services.refreshing.forecasts import forecasts
from bench.load import KEY
from bench.pipeline import API_KEY
from bench.report import Figure, Report, figure
from bench.scale import FilledPostgres

SIZES: Final = {100_000: "100 thousand", 1_000_000: "a million"}
QUICK_SIZES: Final = {20_000: "20 thousand"}
LIMIT: Final = 10_000  # requests per minute of the account
_PERIOD: Final = 48 * 60  # seconds between two renewals, on average

_CONNECTIONS: Final = """
INSERT INTO connections (id, environment, integration, connection_id, nango_id, provider, auth_mode, status, tags,
    tags_disagree, absences, created_at, updated_at, expires_at, expires_source, renewed_at, slot)
SELECT gen_random_uuid(), 'default', 'integration-' || n % 20, 'c-' || n, n, 'google-mail', 'OAUTH2', 'active', '{}',
    false, 0, now(), now(), now() + (n % :period - :period + 3600) * interval '1 s', 'provider',
    now() + (n % :period - :period) * interval '1 s', n
FROM generate_series(1, :count) AS n
"""
_PLANS: Final = """
INSERT INTO refreshes (id, connection_ref, refresh_at, next_at, forced, reason, attempts, failures, created_at)
SELECT gen_random_uuid(), id, due, due, false, 'before the token expires', 0, 0, renewed_at
FROM (SELECT id, renewed_at, renewed_at + :period * interval '1 s' AS due FROM connections) AS planned
"""


def measure(report: Report, *, quick: bool) -> None:
    postgres = FilledPostgres()
    try:
        postgres.start()
        with report.part("forecasts of refreshes"):
            for size, name in (QUICK_SIZES if quick else SIZES).items():
                with closing(connect(postgres.create_database())) as database:
                    _fill(database, size)
                    report.figures |= _forecast(database, size, name)
    finally:
        postgres.close()


def _fill(database: Database, count: int) -> None:
    """So many connections with an open plan each."""
    upgrade(database)
    with database.engine.connect() as connection, connection.begin(), unbounded(connection):
        # Foreign keys hold by construction.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(_CONNECTIONS), {"count": count, "period": _PERIOD})
        connection.execute(text(_PLANS), {"period": _PERIOD})
        connection.execute(text("ANALYZE connections, refreshes"))


def _forecast(database: Database, size: int, name: str) -> dict[str, Figure]:
    keys = SigningKeys((SecretStr(KEY),))
    environment = Environment("default", "http://127.0.0.1:1", "bench", keys, api_key=SecretStr(API_KEY))
    policy = Policy({"default": environment}, refresh=RefreshPolicies({}, shipped_catalogue()))
    began, used = time.perf_counter(), time.process_time()
    [one] = forecasts(database, policy, lambda _account: LIMIT, now=utc_now())
    hours = one.found.hours
    took, cpu = time.perf_counter() - began, time.process_time() - used
    expected = size * 3600 / _PERIOD
    if one.found.connections != size or any(abs(calls - expected) > 0.1 * expected for calls in hours[2:]):
        raise AssertionError(f"{one.found.connections} connections, hours {hours}")
    return {
        f"forecast of {name} connections": figure(took, "s"),
        f"forecast of {name} connections, CPU": figure(cpu, "s"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.refresh_forecasts")
    parser.add_argument("--quick", action="store_true")
    report = Report()
    measure(report, quick=parser.parse_args().quick)
    report.print()


if __name__ == "__main__":
    main()
