"""`waylink.reconcile`: open due runs, work on open ones, hint their new events."""

from collections.abc import Sequence

from celery import Celery

from app.brokers.celery_broker import RECONCILE
from app.brokers.hints import Hints
from app.services.reconciliation.reconciler import Reconciler


def register(app: Celery, reconciler: Reconciler, hints: Hints) -> None:
    @app.task(name=RECONCILE)
    def reconcile(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        reconciler.plan()
        hints.of_events(reconciler.work())
