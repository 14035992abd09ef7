"""`waylink.reconcile`: open the runs whose time has come, take due ones on, announce the events that came of it."""

from collections.abc import Sequence

from celery import Celery

from app.brokers.celery_broker import RECONCILE, Broker
from app.services.reconciliation.reconciler import Reconciler
from workers.tasks.events import announce


def register(app: Celery, reconciler: Reconciler, internal: Broker) -> None:
    @app.task(name=RECONCILE)
    def reconcile(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        reconciler.plan()
        announce(internal, reconciler.work())
