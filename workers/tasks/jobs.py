"""`waylink.deliver_jobs`: there are jobs to hand over. The process's delivery loop does it, this only wakes it."""

from collections.abc import Sequence

from celery import Celery

from app.brokers.celery_broker import DELIVER_JOBS
from app.ids import JOB, parse
from app.services.delivery.loop import DeliveryLoop


def register(app: Celery, deliveries: DeliveryLoop) -> None:
    @app.task(name=DELIVER_JOBS)
    def deliver_jobs(ids: Sequence[str] = ()) -> None:
        deliveries.hint([parse(JOB, one) for one in ids])
