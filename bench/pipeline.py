"""How fast stored events become jobs: the processor on a backlog, one process, confirm off, 20 routes.

`python -m bench.pipeline DATABASE_URL COUNT` fills the database and prints events per second as JSON.
"""

import json
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from app.db import schema
from app.db.engine import connect
from app.db.routes import RouteRow
from app.db.storing import NewDelivery
from app.domain.signature import fingerprint
from app.environments import Environment, SigningKeys
from app.ids import new_id
from app.services.configuring import DestinationRow, apply_file
from app.services.confirming import NangoClients
from app.services.intake import store
from app.services.policy import Policy
from app.services.processing import Processor
from bench.load import KEY, request


def now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    database = connect(sys.argv[1])
    count = int(sys.argv[2])
    schema.upgrade(database)
    environments = {"default": Environment("default", "", "bench", SigningKeys((SecretStr(KEY),)))}
    with database.write() as session:
        apply_file(
            session,
            destinations={("bench", "jobs"): DestinationRow("celery", "team.bench.jobs")},
            routes=[
                RouteRow(
                    f"route-{number:02}",
                    "bench",
                    "jobs",
                    "bench.job",
                    {"type": ["connection.created"], "tags": {"plan": ["pro" if number < 1 else f"plan-{number}"]}},
                )
                for number in range(20)
            ],
            now=now(),
        )
    bodies = [request(str(uuid.uuid4())).partition(b"\r\n\r\n")[2] for _ in range(count)]
    for start in range(0, count, 500):
        with database.write() as session:
            deliveries = [
                NewDelivery(new_id(), "default", fingerprint("default", body), body, now())
                for body in bodies[start : start + 500]
            ]
            store(session, deliveries, window=timedelta(seconds=150), now=now())
    processor = Processor(database, Policy(environments), NangoClients(environments), now)
    started = time.perf_counter()
    jobs = 0
    while done := processor.process(()):
        if not done.settled:
            break
        jobs += len(done.job_ids)
    print(json.dumps({"per_second": count / (time.perf_counter() - started), "jobs": jobs}))
    database.close()


if __name__ == "__main__":
    main()
