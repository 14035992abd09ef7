"""`waylink.process_events`: process the hinted events, then announce the jobs that came of them."""

from collections.abc import Sequence
from uuid import UUID

from celery import Celery

from app.brokers.celery_broker import DELIVER_JOBS, PROCESS_EVENTS, Broker, hint
from app.deadlines import BATCH
from app.errors import BrokerUnavailable
from app.ids import EVENT, JOB, new_id, parse, show
from app.services.events.processor import Processor
from app.telemetry import HINTS_LOST, get_logger

log = get_logger(__name__)


def register(app: Celery, processor: Processor, internal: Broker) -> None:
    @app.task(name=PROCESS_EVENTS)
    def process_events(ids: Sequence[str] = ()) -> None:
        applied = processor.process([parse(EVENT, one) for one in ids])
        if applied.settled or applied.waiting:
            log.info("events_processed", settled=applied.settled, waiting=applied.waiting, jobs=len(applied.job_ids))
        # After the commit: a message about a job that was rolled back would be a lie.
        _send(internal, DELIVER_JOBS, [show(JOB, one) for one in applied.job_ids], what="jobs")


def announce(internal: Broker, events: Sequence[UUID]) -> None:
    """Tell the events workers of events of our own."""
    _send(internal, PROCESS_EVENTS, [show(EVENT, one) for one in events], what="events")


def _send(internal: Broker, task: str, ids: Sequence[str], *, what: str) -> None:
    try:
        internal.send([hint(task, new_id().hex, ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)])
    except BrokerUnavailable as away:
        HINTS_LOST.inc()
        log.warning("hints_lost", **{what: len(ids)}, problem=str(away), then="the sweep sends them")
