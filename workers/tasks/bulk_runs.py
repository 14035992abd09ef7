"""`waylink.bulk_runs`: carry out bulk runs."""

from collections.abc import Sequence

from celery import Celery

from app.brokers.celery_broker import BULK_RUNS
from app.brokers.hints import Hints
from app.services.bulk_runs.runner import BulkRunner


def register(app: Celery, runner: BulkRunner, hints: Hints) -> None:
    """Register the task. A run that is not over takes its turn anew behind the other messages of the queue."""

    @app.task(name=BULK_RUNS)
    def bulk_runs(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        if runner.work():
            hints.of_bulk_runs()
