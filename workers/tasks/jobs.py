"""`waylink.deliver_jobs`: hand the hinted jobs over to their teams."""

from collections.abc import Sequence

from celery import Celery

from app.broker import DELIVER_JOBS
from app.ids import JOB, parse
from app.services.delivery import Deliverer
from app.telemetry import get_logger

log = get_logger(__name__)


def register(app: Celery, deliverer: Deliverer) -> None:
    @app.task(name=DELIVER_JOBS)
    def deliver_jobs(ids: Sequence[str] = ()) -> None:
        delivered = deliverer.deliver([parse(JOB, one) for one in ids])
        if delivered.completed or delivered.failed:
            log.info("jobs_delivered", completed=delivered.completed, failed=delivered.failed)
