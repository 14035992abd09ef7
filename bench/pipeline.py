"""The rate at which stored events become jobs in a team's queue: one process, 20 routes, one of which matches an event.

`python -m bench.pipeline DATABASE_URL COUNT [--teams BROKER_URL] [--sandbox URL]` stores COUNT webhooks, processes them
and prints one JSON object: events per second, the number of jobs, and this process's processor time per event.
Without --teams the jobs are made and not delivered. With --sandbox each event is confirmed over HTTP; it is
registered there just before, as webhooks are about recent changes. With --announce BROKER_URL they are
stored and announced there, and left to workers.
"""

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import httpx
import uvloop
from pydantic import SecretStr
from sqlalchemy import func, select

from app.brokers.celery_broker import PROCESS_EVENTS, Broker, hint
from app.clock import utc_now
from app.config.nango_environment import Environment, SigningKeys
from app.db.engine import Database, connect
from app.db.ingest import NewDelivery
from app.db.migrate import upgrade
from app.db.models import Event, Job
from app.db.routes import RouteDefinition
from app.deadlines import BATCH
from app.domain.signature import fingerprint
from app.domain.states import JobState
from app.ids import EVENT, new_id, show
from app.runtime.interpreter import collect_rarely
from app.services.definitions.config_plan import DestinationDefinition
from app.services.definitions.config_sync import apply_file
from app.services.delivery.deliverer import Deliverer
from app.services.delivery.loop import DeliveryLoop
from app.services.events.intake import writer_for
from app.services.events.processor import Processor
from app.services.nango_clients import NangoClients
from app.services.policy import Policy
from bench.load import KEY, body

ROUTES: Final = 20
TEAM: Final = "bench"
QUEUE: Final = "team.bench.jobs"
API_KEY: Final = "4d70f328-6b39-451e-b92f-21969323b448"  # of the sandbox: Nango's are UUIDs
WINDOW: Final = timedelta(seconds=150)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Both halves of the work. Without a deliverer the jobs stay where they are.

    The processor's own loop sends the jobs that leave at once, the deliverer all others.
    """

    processor: Processor
    deliverer: Deliverer | None

    def work_off(self) -> int:
        """Process all due events and deliver their jobs; the number of jobs."""
        jobs = 0
        while (done := self.processor.process()).finished:
            jobs += len(done.job_ids) + len(done.claimed)
            if self.deliverer is not None:
                for start in range(0, len(done.job_ids), BATCH):
                    self.deliverer.deliver(done.job_ids[start : start + BATCH])
        return jobs

    def finish(self) -> None:
        """Wait for the jobs that left at once."""
        if self.processor.deliveries is not None:
            self.processor.deliveries.stop()


def prepare(database: Database) -> None:
    """The schema, and the routes: by plan, of which one is what the generator sends."""
    upgrade(database)
    plans = ["pro", *(f"plan-{number}" for number in range(1, ROUTES))]
    with database.write() as session:
        apply_file(
            session,
            destinations={(TEAM, "jobs"): DestinationDefinition("celery", QUEUE)},
            routes=[
                RouteDefinition(
                    plan, TEAM, "jobs", "bench.job", {"type": ["connection.created"], "tags": {"plan": [plan]}}
                )
                for plan in plans
            ],
            now=utc_now(),
        )


def pipeline(database: Database, *, teams: str | None = None, sandbox: str | None = None) -> Pipeline:
    api_key = SecretStr(API_KEY) if sandbox else None
    default = Environment("default", sandbox or "", "bench", SigningKeys((SecretStr(KEY),)), api_key)
    environments = {"default": default}
    processor = Processor(database, Policy(environments), NangoClients(environments), utc_now)
    if not teams:
        return Pipeline(processor, None)
    loop = DeliveryLoop(Deliverer(database, Broker.at("teams", teams), utc_now), claims=False)
    loop.start()
    while not loop.direct:  # it reads the destinations first
        time.sleep(0.01)
    processor.deliveries = loop
    return Pipeline(processor, Deliverer(database, Broker.at("teams", teams), utc_now))


def receive(database: Database, bodies: Sequence[bytes]) -> float:
    """Store webhooks as the web process does; the seconds each took."""
    return uvloop.run(_receive(database, bodies))


def announce(database: Database, broker: Broker) -> None:
    """Announce all stored events to the workers, as the web process does."""
    with database.read() as session:
        ids = [show(EVENT, id_) for id_ in session.scalars(select(Event.id).order_by(Event.id))]
    starts = range(0, len(ids), BATCH)
    broker.send([hint(PROCESS_EVENTS, new_id().hex, ids[start : start + BATCH]) for start in starts])


async def _receive(database: Database, bodies: Sequence[bytes]) -> float:
    writer = writer_for(database, WINDOW, utc_now)
    await writer.store([_delivery(bodies[0])])  # to connect; what is stored again changes nothing
    started = time.perf_counter()
    for start in range(0, len(bodies), BATCH):
        await writer.store([_delivery(body) for body in bodies[start : start + BATCH]])
    took = time.perf_counter() - started
    await writer.close()
    return took / len(bodies)


def _delivery(content: bytes) -> NewDelivery:
    return NewDelivery(new_id(), "default", fingerprint("default", content), content, utc_now())


def _completed(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).where(Job.state == JobState.COMPLETED)) or 0


def register(sandbox: str, bodies: Sequence[bytes]) -> None:
    """Register the webhooks' connections at the sandbox."""
    headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/json"}
    with httpx.Client(base_url=sandbox, headers=headers, timeout=10, trust_env=False) as client:
        for body in bodies:
            client.post("/sandbox/connections", content=body).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.pipeline", description="Measure the pipeline.")
    parser.add_argument("database")
    parser.add_argument("count", type=int)
    parser.add_argument("--teams", help="broker URL of the teams; jobs are delivered there")
    parser.add_argument("--announce", metavar="BROKER", help="store and announce only")
    parser.add_argument("--sandbox", help="URL of a sandbox that confirms")
    options = parser.parse_args()
    database = connect(options.database)
    prepare(database)
    if options.announce:
        receive(database, [body(str(uuid.uuid4())) for _ in range(options.count)])
        announce(database, Broker.at("internal", options.announce))
        return
    work = pipeline(database, teams=options.teams, sandbox=options.sandbox)
    collect_rarely()  # as workers do
    # Confirmed events come as they happen; otherwise it is one backlog.
    at_once = BATCH if options.sandbox else options.count
    jobs, seconds, cpu = 0, 0.0, 0.0
    for start in range(0, options.count, at_once):
        bodies = [body(str(uuid.uuid4())) for _ in range(min(at_once, options.count - start))]
        if options.sandbox:
            register(options.sandbox, bodies)
        receive(database, bodies)
        began, began_cpu = time.perf_counter(), time.process_time()
        jobs += work.work_off()
        seconds, cpu = seconds + time.perf_counter() - began, cpu + time.process_time() - began_cpu
    began, began_cpu = time.perf_counter(), time.process_time()
    work.finish()
    seconds, cpu = seconds + time.perf_counter() - began, cpu + time.process_time() - began_cpu
    if options.teams and (completed := _completed(database)) < jobs:
        sys.exit(f"{completed} of {jobs} jobs were delivered")
    answer = {"per_second": options.count / seconds, "jobs": jobs, "cpu_us": cpu / options.count * 1e6}
    print(json.dumps(answer))
    database.close()


if __name__ == "__main__":
    main()
