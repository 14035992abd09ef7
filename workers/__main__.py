"""`python -m workers events|io|beat`: one background process. `waylink worker` and `waylink beat` end up here."""

import os
import sys
import warnings
from typing import Final

from sqlalchemy.exc import DBAPIError

from app.broker import EVENTS_QUEUE, IO_QUEUE
from app.configuration import load
from app.errors import WaylinkError, refuse
from app.telemetry import configure_logs
from workers.celery import make_beat, make_worker

# Measured: one process with one thread beats any pool for the database work; run more processes for more.
# The io kind mostly waits for others, so threads serve it.
_WORKERS: Final = {
    "events": [f"--queues={EVENTS_QUEUE}", "--pool=solo"],
    "io": [f"--queues={IO_QUEUE}", "--pool=threads", "--concurrency=8"],
}


def run(kind: str) -> None:
    """Run one background process in the foreground until it is told to stop. Raises WaylinkError."""
    settings = load()
    configure_logs(style=settings.log_format, level=settings.log_level)
    # Celery warns of root because of pickle; these workers take JSON only.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    if kind == "beat":
        make_beat(settings).Beat(quiet=True, loglevel=settings.log_level.upper()).run()
        return
    make_worker(settings).worker_main(
        [
            "--quiet",
            "worker",
            *_WORKERS[kind],
            f"--hostname={kind}-{os.getpid()}@%h",
            f"--loglevel={settings.log_level}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


if __name__ == "__main__":
    try:
        run(sys.argv[1])
    except WaylinkError as refused:
        sys.exit(refuse(refused))
    except DBAPIError as away:
        reason = str(away.orig).strip().partition("\n")[0] if away.orig else "no answer"
        sys.exit(f"error: the database cannot be used: {reason}")
