"""The loss audit: `python -m bench.audit --seconds 60` loads the whole product while everything in it fails.

Webhooks come on a schedule while web, workers and Beat are each killed with -9 and stopped for a while, the internal
broker is flushed and restarted empty, and PostgreSQL is restarted, killed, cut off and made read-only. When all has
settled, each process has to work by itself, and the database and the team's queue are counted against the sender's
ledger. Prints one JSON object; exits 1 when anything is lost, doubled or stuck, or names a row that is not there.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import uvloop

from app.db.engine import Database, connect
from bench.audit_chaos import VICTIMS, Blow, plan, wreak
from bench.audit_ledger import Finding, Ledger, Rows, redeliveries, verdict
from bench.audit_recovery import stuck
from bench.audit_rows import broken_references, expire_leases, read_rows, unsettled
from bench.audit_sender import Traffic, Webhook, send, webhooks
from bench.processes import DurablePostgres
from bench.product import QUEUE, Product, product
from bench.report import Figure, figure, progress
from tests.certificates import issue

ROUTES: Final = {
    "import": ["connection.created"],
    "welcome": ["connection.linked"],
    "everything": ["connection.created", "connection.reauthorized", "connection.linked"],
}
FINISH_WITHIN: Final = 150.0  # seconds; a lease is 30, and the worker that takes over may be slow on a busy machine
SHOWN: Final = 20  # findings


@dataclass(frozen=True, slots=True)
class Course:
    """One run: how long, how much, of what."""

    seconds: float = 60.0
    rate: float = 150.0  # new connections per second; with repetitions and re-authorizations a quarter more webhooks
    seed: int = 1
    sqlite: bool = False
    tls: bool = False
    confirm: bool = False
    hurry: bool = False  # leases are ended by hand at the end, instead of being waited for


@dataclass(frozen=True, slots=True)
class Outcome:
    course: Course
    ledger: Ledger
    traffic: Traffic
    blows: Sequence[Blow]
    deaths: int
    settled_in: float
    rows: Rows
    findings: Sequence[Finding]

    def count(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    def report(self) -> dict[str, Any]:
        """As printed. Durations are seconds."""
        return {
            "course": asdict(self.course),
            "webhooks": len(self.ledger.sent),
            "acknowledged": len(self.ledger.acknowledged),
            "lost": self.count("lost"),
            "doubled": self.count("doubled"),
            "stuck": self.count("stuck"),
            "broken": self.count("broken"),
            "findings": [asdict(finding) for finding in self.findings[:SHOWN]],
            "chaos": dict(Counter(f"{blow.target}: {blow.kind}" for blow in self.blows)),
            "ended_by_themselves": self.deaths,
            "answers": dict(self.traffic.answers),
            "given_up": self.traffic.given_up,
            "jobs": len(self.rows.jobs),
            "jobs_taken_over": sum(job.attempts > 1 for job in self.rows.jobs),
            "redeliveries": redeliveries(self.rows),
            "longest_gap_without_202": round(self.traffic.longest_gap, 2),
            "slowest_202": round(self.traffic.slowest, 2),
            "settled_in": round(self.settled_in, 1),
        }


def audit(course: Course, *, keep: Path | None = None, **variables: str) -> Outcome:
    """Run it once. `keep`: a folder for the ledger and the processes' logs. `variables`: the product's environment."""
    planned = webhooks(seed=course.seed, seconds=course.seconds, rate=course.rate)
    blows = plan(seed=course.seed, seconds=course.seconds, database=not course.sqlite)
    names = (*(["sandbox"] if course.confirm else []), *VICTIMS)
    with (
        TemporaryDirectory(prefix="waylink-audit-tls-") as folder,
        product(
            names,
            ROUTES,
            sqlite=course.sqlite,
            tls=issue(Path(folder)) if course.tls else None,
            proxied=not course.sqlite,
            database=DurablePostgres,
            **variables,
        ) as running,
    ):
        if course.confirm:
            running.sandbox.register(*{webhook.sent.connection_id: webhook.body for webhook in planned}.values())
        ledger = Ledger()
        with closing(connect(running.database_url)) as database, running.kept_up():
            traffic = _load(running, database, planned, blows, ledger)
            settled_in = wait_until_finished(database, hurry=course.hurry)
            findings = stuck(running, database, ledger)
            rows = read_rows(database, running.teams, QUEUE)
            findings += broken_references(database)
        if keep is not None:
            running.keep_logs(keep)
            _keep_ledger(ledger, keep / "ledger.jsonl")
    findings += verdict(ledger, rows, ROUTES)
    return Outcome(course, ledger, traffic, blows, running.deaths, settled_in, rows, findings)


def run(course: Course) -> Outcome:
    """Audit, and say on standard error how it went; where something is wrong, ledger and logs are kept."""
    keep = Path(tempfile.mkdtemp(prefix="waylink-audit-"))
    outcome = audit(course, keep=keep)
    words = f"{len(outcome.ledger.acknowledged)} acknowledged, {outcome.count('lost')} lost"
    words += f", {outcome.count('doubled')} doubled, {outcome.count('stuck')} stuck, {outcome.count('broken')} broken"
    progress(f"loss audit: {words}, seed {course.seed}")
    for finding in outcome.findings[:SHOWN]:
        progress(f"{finding.kind}: {finding.what} {finding.id}")
    if outcome.findings:
        progress(f"ledger and logs are kept in {keep}")
    else:
        shutil.rmtree(keep)
    return outcome


def figures(quick: bool) -> dict[str, Figure]:
    """For the benchmarks' table: PostgreSQL, confirm off."""
    outcome = run(Course(seconds=10.0, hurry=True) if quick else Course())
    return {
        "loss audit: lost": figure(outcome.count("lost"), "events", at_most=0),
        "loss audit: doubled": figure(outcome.count("doubled"), "events", at_most=0),
        "loss audit: stuck": figure(outcome.count("stuck"), "processes", at_most=0),
        "loss audit: broken": figure(outcome.count("broken"), "references", at_most=0),
        "loss audit: acknowledged": figure(len(outcome.ledger.acknowledged), "events"),
    }


def _load(
    running: Product, database: Database, planned: Sequence[Webhook], blows: Sequence[Blow], ledger: Ledger
) -> Traffic:
    with ThreadPoolExecutor(1) as pool:
        chaos = pool.submit(wreak, running, database, blows)
        traffic = uvloop.run(send(running.web_ports.values(), planned, ledger))
        chaos.result()
    return traffic


def wait_until_finished(database: Database, *, hurry: bool) -> float:
    """Wait until nothing is left to do, or for as long as it may take; the seconds it took."""
    started = time.monotonic()
    if hurry:
        expire_leases(database)
    while unsettled(database) and time.monotonic() - started < FINISH_WITHIN:
        time.sleep(0.5)
    return time.monotonic() - started


def _keep_ledger(ledger: Ledger, path: Path) -> None:
    lines = (
        json.dumps({"event_id": event_id, "digest": digest, **asdict(ledger.sent[digest])})
        for event_id, digest in sorted(ledger.acknowledged)
    )
    path.write_text("".join(f"{line}\n" for line in lines))


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # an end by `kill` cleans up like one by Ctrl-C
    usual = Course()
    parser = argparse.ArgumentParser(prog="bench.audit", description="Kill everything at random; count what is lost.")
    parser.add_argument("--seconds", type=float, default=usual.seconds)
    parser.add_argument("--rate", type=float, default=usual.rate, help="new connections per second")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="the same seed, the same plan")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--tls", action="store_true", help="with TLS to all servers, which are Debian's then")
    parser.add_argument("--confirm", action="store_true", help="confirm every event with a sandbox of Nango")
    given = parser.parse_args()
    sqlite = given.database == "sqlite"
    outcome = run(Course(given.seconds, given.rate, given.seed, sqlite, tls=given.tls, confirm=given.confirm))
    print(json.dumps(outcome.report(), indent=2))
    sys.exit(1 if outcome.findings else 0)


if __name__ == "__main__":
    main()
