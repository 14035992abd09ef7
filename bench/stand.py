"""Setting of the delivery benchmarks: a database full of jobs, one io worker, endpoints as separate processes."""

import json
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from app.brokers.celery_broker import DELIVER_JOBS, Broker, hint
from app.db.engine import Database, connect
from app.deadlines import BATCH
from app.ids import JOB, new_id, show
from bench.ladder import Bench
from bench.load import KEY, body
from bench.pipeline import pipeline, receive
from bench.processes import START_WITHIN, Failed, python, run, running, serving
from tests.ports import free_port

DONE_WITHIN: Final = 120.0  # seconds
VARIABLES: Final = {
    "WAYLINK_NANGO_SIGNING_KEYS": KEY,
    "WAYLINK_SECRET_KEY": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "WAYLINK_ALLOWED_DESTINATION_RANGES": "127.0.0.0/8",
    "BENCH_WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}


Worker = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Jobs:
    """A database that holds jobs for each of these ports, and the folder of its configuration."""

    url: str
    folder: Path
    ports: Sequence[int]
    count: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Teams' endpoints, in one process; `port` reports their arrivals."""

    port: int

    def arrivals(self, path: str = "/") -> dict[str, dict[str, Any]]:
        """By port; `/arrivals` gives the time of each job instead."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            counts_by_port: dict[str, dict[str, Any]] = json.load(answer)
        return counts_by_port

    def wait_for(self, count: int, worker: Worker, *, counted: str = "jobs") -> float:
        """The time at which the last of `count` arrived, in unix seconds. Raises Failed."""
        give_up = time.monotonic() + DONE_WITHIN
        while True:
            counts_by_port = self.arrivals().values()
            if (number := sum(counts[counted] for counts in counts_by_port)) >= count:
                return float(max(counts["last_at"] for counts in counts_by_port))
            if time.monotonic() > give_up or worker.poll() is not None:
                raise Failed(f"{number} of {count} jobs came")
            time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Delivering:
    """A worker that takes work, on a database of jobs that no hint has announced yet."""

    database: Database
    broker: Broker
    worker: Worker
    endpoints: Endpoints  # of all destinations but the last, where there are several

    def job_ids(self) -> list[str]:
        with self.database.read() as session:
            return [show(JOB, id_) for id_ in session.scalars(text("SELECT id FROM jobs ORDER BY id"))]

    def announce(self, ids: Sequence[str]) -> None:
        """Send the worker a hint, as is done after the commit that makes jobs."""
        starts = range(0, len(ids), BATCH)
        self.broker.send([hint(DELIVER_JOBS, new_id().hex, ids[start : start + BATCH]) for start in starts])


def prepare(on: Bench, destinations: int, count: int) -> Jobs:
    """`count` due jobs, as many for each destination, made from webhooks by the product itself."""
    ports = [free_port() for _ in range(destinations)]
    folder = on.folder / f"jobs-{uuid.uuid4().hex}"
    folder.mkdir()
    (folder / "waylink.toml").write_text(configuration(ports))
    jobs = Jobs(on.postgres.create_database(), folder, ports, count)
    run(python("app.cli", "migrate"), variables_of(on, jobs.url), folder)
    with closing(connect(jobs.url)) as database:
        receive(database, [body(str(uuid.uuid4())) for _ in range(count // destinations)])
        made = pipeline(database).work_off()
    if made != count:
        raise Failed(f"{made} jobs were made instead of {count}")
    return jobs


def configuration(ports: Sequence[int]) -> str:
    """A waylink.toml in which every new connection is a job for each of these endpoints."""
    return "".join(
        f'[teams.bench.destinations.at-{port}]\nkind = "http"\nurl = "http://127.0.0.1:{port}/waylink"\n'
        f'secret_env = "BENCH_WEBHOOK_SECRET"\n\n'
        f'[[routes]]\nname = "to-{port}"\nteam = "bench"\ndestination = "at-{port}"\njob = "bench.job"\n'
        f'pattern = \'{{"type": ["connection.created"]}}\'\n\n'
        for port in ports
    )


def variables_of(on: Bench, url: str) -> dict[str, str]:
    """The settings of the worker, and of what runs beside it."""
    brokers = {"WAYLINK_BROKER_URL": on.valkey.url(0), "WAYLINK_TEAM_BROKER_URL": on.valkey.url(1)}
    return {"WAYLINK_DATABASE_URL": url, **brokers, **VARIABLES}


@contextmanager
def delivering(on: Bench, jobs: Jobs, *, hanging: bool = False) -> Iterator[Delivering]:
    """One io worker as it is run, on a copy of the database. Of several destinations the last one may hang."""
    url = on.postgres.create_database(template=jobs.url.partition("?")[0].rpartition("/")[2])
    broker = Broker.at("internal", on.valkey.url(0))
    first, last = jobs.ports[:-1] or jobs.ports, jobs.ports[1:][-1:]
    with (
        closing(connect(url)) as database,
        closing(broker),
        endpoints(on, first) as serving,
        endpoints(on, () if hanging else last, last if hanging else ()),
        running(python("workers", "io"), variables_of(on, url), log := jobs.folder / "io.log") as worker,
    ):
        give_up = time.monotonic() + START_WITHIN
        while f"io-{worker.pid}@" not in log.read_text(errors="replace"):
            if time.monotonic() > give_up or worker.poll() is not None:
                raise Failed(f"the worker did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield Delivering(database, broker, worker, serving)
        worker.kill()  # an orderly end would wait for answers that do not come


@contextmanager
def endpoints(on: Bench, well: Sequence[int], hanging: Sequence[int] = ()) -> Iterator[Endpoints]:
    """Endpoints at these ports, from when they answer."""
    port = free_port()
    with serving(python("bench.endpoint", port, "--well", *well, "--hanging", *hanging), {}, port, on.folder):
        yield Endpoints(port)
