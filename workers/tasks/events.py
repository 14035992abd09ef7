"""`waylink.process_events`: process due events, then hint their new jobs.

A message is a wake-up: its ids are not used, since events are claimed in the order in which they are due.
"""

from collections.abc import Callable, Sequence

from celery import Celery

from app.brokers.celery_broker import PROCESS_EVENTS
from app.brokers.hints import Hints
from app.services.events.processor import Processor
from app.telemetry import get_logger

log = get_logger(__name__)


def register(app: Celery, processor: Processor, hints: Hints, *, processed: Callable[[], None]) -> None:
    """Register the task. processed: called when events were applied, or wait for another lookup."""

    @app.task(name=PROCESS_EVENTS)
    def process_events(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - sent to earlier releases as well
        applied = processor.process()
        if applied.finished or applied.waiting or applied.canaries:
            processed()
        if applied.finished or applied.waiting:
            log.info(
                "events_processed",
                settled=applied.finished,
                waiting=applied.waiting,
                jobs=len(applied.job_ids) + len(applied.claimed),
            )
        # After the commit, as a hint must not name a job that was rolled back.
        hints.of_jobs(applied.job_ids)
