"""Cost of comparing Nango's list with ours: processor time and memory of our own process, against the sandbox.

`python -m bench.reconcile [--quick]` runs it alone. The first run of an account is its import: every connection is
found, becomes an event and is linked. The next one finds nothing. Each is a process of its own, and takes the minute
between its two checks as passed. The pipeline works in the same process, so the bound on waiting events holds, and
its processor time is counted separately.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from app.clock import utc_now
from app.config.nango_environment import Environment, SigningKeys
from app.db import reconciliations
from app.db.engine import Database, connect
from app.domain.reconciling import RunOutcome, Trigger
from app.runtime.interpreter import collect_rarely
from app.sandbox.entities import SandboxConnection, SandboxIntegration, SavedState
from app.sandbox.statefile import write
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from app.services.reconciliation.reconciler import Reconciler
from app.services.reconciliation.run_requests import open_run
from bench.ladder import bench
from bench.load import KEY
from bench.pipeline import API_KEY, prepare
from bench.processes import Failed, python, run_json, serving
from bench.report import Figure, Report, figure, progress
from tests.ports import free_port

FULL, QUICK = 100_000, 2_000  # connections
CPU_GOAL, MEMORY_GOAL = 60.0, 150.0  # seconds and MB, for 100,000
SECONDS: Final = 600.0  # of one call of `work`: no run is to be interrupted here


def figures(quick: bool) -> Mapping[str, Figure]:
    """Both runs on both databases; the quick form on PostgreSQL only."""
    count = QUICK if quick else FULL
    found: dict[str, Figure] = {}
    with bench() as on:
        state, port = on.folder / "account.json", free_port()
        write(state, account(count, now=utc_now()))
        sandbox = python("app.cli", "sandbox", "--port", port, "--api-key", API_KEY, "--signing-key", KEY)
        with serving([*sandbox, "--state-file", str(state)], {}, port, on.folder):
            url = f"http://127.0.0.1:{port}"
            databases = {"postgresql": on.postgres.create_database(), "sqlite": f"sqlite:///{on.folder}/reconcile.db"}
            for kind in ["postgresql"] if quick else databases:
                for name in ("import", "nothing differs"):
                    told = run_json(python("bench.reconcile", "--database", databases[kind], "--sandbox", url))
                    _require(told, count, name)
                    what = f"reconcile {count:,}, {name}, {kind}"
                    progress(f"{what}: {told}")
                    found |= _figures(what, told)
    return found


def _require(told: Mapping[str, Any], count: int, name: str) -> None:
    counted = count if name == "import" else 0
    if (told["outcome"], told["seen"], told["counted"], told["healed"]) != ("completed", count, counted, counted):
        raise Failed(f"{name}: {told}")


def _figures(what: str, told: Mapping[str, Any]) -> dict[str, Figure]:
    return {
        f"{what}, CPU": figure(told["cpu"], "s", at_most=CPU_GOAL),
        f"{what}, memory": figure(told["megabytes"], "MB", at_most=MEMORY_GOAL),
        f"{what}, calls": figure(told["calls"], "calls"),
        f"{what}, pipeline CPU": figure(told["pipeline_cpu"], "s"),
        f"{what}, in all": figure(told["seconds"], "s"),
    }


def account(count: int, *, now: datetime) -> SavedState:
    """A Nango account with so many connections, made a second apart and long ago."""
    integration = SandboxIntegration(
        unique_key="oauth2",
        provider="local-oauth2",
        auth_mode="OAUTH2",
        display_name="oauth2",
        forward_webhooks=True,
        created_at=now - timedelta(days=400),
        updated_at=now - timedelta(days=400),
    )
    return SavedState(
        next_id=count + 1,
        integrations=(integration,),
        connections=tuple(_connection(number, now - timedelta(days=30)) for number in range(1, count + 1)),
    )


def _connection(number: int, since: datetime) -> SandboxConnection:
    at = since + timedelta(seconds=number)
    return SandboxConnection(
        id=number,
        connection_id=f"{number:08x}-0000-4000-8000-000000000000",
        integration="oauth2",
        provider="local-oauth2",
        auth_mode="OAUTH2",
        tags={
            "end_user_id": f"user-{number}",
            "end_user_email": f"user-{number}@people.example",
            "organization_id": f"organization-{number % 1000}",
            "plan": "pro",
        },
        created_at=at,
        updated_at=at,
        last_fetched_at=at,
        metadata={},
        connection_config={},
        credentials={"type": "OAUTH2", "access_token": "t", "raw": {}},
    )


@dataclass(slots=True)
class Clock:
    """The time, and what was waited for without waiting."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


def compare(database: Database, sandbox: str) -> dict[str, Any]:
    """One run, to its end."""
    clock = Clock()
    environment = Environment("default", sandbox, "bench", SigningKeys((SecretStr(KEY),)), SecretStr(API_KEY))
    environments = {"default": environment}
    clients = NangoClients(environments)
    reconciler = Reconciler(database, clients, ["default"], clock)
    processor = Processor(database, Policy(environments), clients, clock)
    with database.write() as session:
        run = open_run(session, "default", trigger=Trigger.DEMAND, now=clock())
    began, cpu, pipeline_cpu = time.monotonic(), 0.0, 0.0
    while run is not None and run.finished_at is None:
        if run.next_at > clock():
            clock.ahead += run.next_at - clock()
        before = time.process_time()
        reconciler.work(seconds=SECONDS)
        between = time.process_time()
        while processor.process().finished:
            pass
        cpu, pipeline_cpu = cpu + between - before, pipeline_cpu + time.process_time() - between
        with database.read() as session:
            run = reconciliations.get(session, run.id)
    if run is None or run.outcome != RunOutcome.COMPLETED:
        raise Failed(f"the run did not complete: {run}")
    return {
        "outcome": run.outcome,
        "seen": run.seen,
        "counted": sum(run.counted.values()),
        "healed": run.healed,
        "calls": run.calls,
        "cpu": cpu,
        "pipeline_cpu": pipeline_cpu,
        "seconds": time.monotonic() - began,
        "megabytes": _peak_megabytes(),
    }


def _peak_megabytes() -> float:
    """Of this process alone: the figure of `getrusage` begins with what its parent had."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.reconcile", description="Measure reconciling.")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} connections")
    parser.add_argument("--database", help="only one run, on this database; prints a JSON object")
    parser.add_argument("--sandbox", help="URL of the sandbox to compare with")
    options = parser.parse_args()
    if options.database:
        database = connect(options.database)
        prepare(database)
        collect_rarely()  # as workers do
        print(json.dumps(compare(database, options.sandbox)))
        database.close()
        return
    report = Report()
    report.figures |= figures(options.quick)
    report.print()


if __name__ == "__main__":
    main()
