"""`python -m workers events|io|beat`: one background process, as run by `waylink worker` and `waylink beat`."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Final

from celery.signals import worker_shutting_down
from sqlalchemy.exc import DBAPIError

from app.brokers.celery_broker import EVENTS_QUEUE, IO_QUEUE
from app.config.loading import load, load_beat
from app.config.settings import Settings
from app.errors import WaylinkError, refuse
from app.runtime.file_limit import raise_file_limit
from app.runtime.interpreter import collect_rarely
from app.runtime.notifications import notifying
from app.runtime.private_files import create_privately
from app.runtime.signs_of_life import reporting
from app.runtime.status_of import look_of
from app.services.delivery.loop import DeliveryLoop
from app.telemetry import configure_logs
from workers.celery import IO_THREADS, make_beat, make_worker
from workers.scheduler import StoppableBeat

# Measured: one process with one thread beats any pool for database work; more processes scale it.
# The io kind mostly waits for other systems, so it has threads.
_WORKERS: Final = {
    "events": [f"--queues={EVENTS_QUEUE}", "--pool=solo"],
    "io": [f"--queues={IO_QUEUE}", "--pool=threads", f"--concurrency={IO_THREADS}"],
}


def run(kind: str) -> None:
    """Run one background process in the foreground until it is told to stop. Raises WaylinkError."""
    create_privately()
    settings = load_beat() if kind == "beat" else load()
    configure_logs(style=settings.log_format, level=settings.log_level)
    # Celery warns of root because of pickle; these workers take JSON only.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    if not isinstance(settings, Settings):
        beat = make_beat(settings)
        with reporting(beat.reporter, settings.data_dir):
            StoppableBeat(app=beat.app, quiet=True, loglevel=settings.log_level.upper()).run()
        return
    worker = make_worker(settings, kind=kind)
    collect_rarely()
    traces = closing(worker.traces) if worker.traces is not None else nullcontext()
    threads = notifying(settings, look_of(settings))
    with traces, reporting(worker.reporter, settings.data_dir, threads), delivering(worker.deliveries):
        worker.app.worker_main(
            [
                "--quiet",
                "worker",
                *_WORKERS[kind],
                f"--hostname={kind}-{os.getpid()}@%h",
                f"--loglevel={settings.log_level}",
                "--without-gossip",
                "--without-mingle",
                *([] if settings.celery_monitoring else ["--without-heartbeat"]),
            ]
        )


@contextmanager
def delivering(deliveries: DeliveryLoop) -> Iterator[None]:
    """Run the delivery loop, also while the internal broker is away.

    The signal that ends the process ends claiming; jobs in flight are waited for beside Celery's tasks. A loop that
    claims nothing is needed until the last task has handed it its jobs.
    """

    def stop_claiming(**_: object) -> None:
        deliveries.ask_to_stop()

    if deliveries.claims:
        worker_shutting_down.connect(stop_claiming)
        raise_file_limit()  # each job in flight to an endpoint holds a connection
    deliveries.start()
    try:
        yield
    finally:
        deliveries.stop()


if __name__ == "__main__":
    try:
        run(sys.argv[1])
    except WaylinkError as refused:
        sys.exit(refuse(refused))
    except DBAPIError as away:
        reason = str(away.orig).strip().partition("\n")[0] if away.orig else "no answer"
        sys.exit(f"error: the database cannot be used: {reason}")
