"""`waylink.deliver_jobs`: wake the delivery loop of the process, which delivers the jobs."""

from collections.abc import Sequence

from celery import Celery

from app.brokers.celery_broker import DELIVER_JOBS
from app.ids import JOB, parse
from app.services.delivery.loop import DeliveryLoop


def register(app: Celery, deliveries: DeliveryLoop) -> None:
    @app.task(name=DELIVER_JOBS)
    def deliver_jobs(ids: Sequence[str] = ()) -> None:
        deliveries.hint([parse(JOB, job_id) for job_id in ids])
