"""`waylink.process_events`: process the hinted events, then hint the jobs that came of them."""

from collections.abc import Sequence

from celery import Celery

from app.brokers.celery_broker import PROCESS_EVENTS
from app.brokers.hints import Hints
from app.ids import EVENT, parse
from app.services.events.processor import Processor
from app.telemetry import get_logger

log = get_logger(__name__)


def register(app: Celery, processor: Processor, hints: Hints) -> None:
    @app.task(name=PROCESS_EVENTS)
    def process_events(ids: Sequence[str] = ()) -> None:
        applied = processor.process([parse(EVENT, one) for one in ids])
        if applied.settled or applied.waiting:
            log.info("events_processed", settled=applied.settled, waiting=applied.waiting, jobs=len(applied.job_ids))
        # After the commit: a message about a job that was rolled back would be a lie.
        hints.of_jobs(applied.job_ids)
