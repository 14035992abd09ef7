"""The tutorials' way to deliver jobs by HTTP: a task per job, which does `requests.post`.

`python -m bench.tutorial_post enqueue URL COUNT|worker POOL CONCURRENCY`: queue COUNT jobs for an endpoint, or run a
Celery worker; TUTORIAL_BROKER_URL says where. It is what guides show: no session, Celery's own retry, nothing signed
and nothing recorded.
"""

import json
import os
import sys
import uuid
import warnings
from datetime import UTC, datetime
from typing import Any, Final

import requests
from celery import Celery

from bench.load import body

TASK: Final = "tutorial.deliver"
TIMEOUT: Final = 15  # seconds, as Waylink's default


def register(app: Celery) -> Any:
    @app.task(name=TASK, autoretry_for=(requests.RequestException,), retry_backoff=True, max_retries=5)
    def deliver(url: str, job: dict[str, Any]) -> None:
        requests.post(url, json=job, timeout=TIMEOUT).raise_for_status()

    return deliver


def job() -> dict[str, Any]:
    """A job as teams receive it, with the webhook in the place of the event document."""
    return {
        "id": f"job_{uuid.uuid4().hex}",
        "name": "bench.job",
        "attempt": 1,
        "created_at": datetime.now(UTC).isoformat(),
        "route": {"name": "pro", "version": 1},
        "event": json.loads(body(str(uuid.uuid4()))),
    }


def main() -> None:
    app = Celery("tutorial", broker=os.environ["TUTORIAL_BROKER_URL"], set_as_current=False)
    app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
    deliver = register(app)
    if sys.argv[1] == "enqueue":
        for _ in range(int(sys.argv[3])):
            deliver.delay(sys.argv[2], job())
        return
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    pool, concurrency = sys.argv[2:4]
    app.worker_main(["--quiet", "worker", f"--pool={pool}", f"--concurrency={concurrency}", "--loglevel=error"])


if __name__ == "__main__":
    main()
