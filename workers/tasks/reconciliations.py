"""`waylink.reconcile`: open due runs, work on open ones, hint their new events."""

from collections.abc import Callable, Sequence

from celery import Celery

from app.brokers.celery_broker import RECONCILE
from app.brokers.hints import Hints
from app.services.reconciliation.reconciler import Reconciler


def register(app: Celery, reconciler: Reconciler, hints: Hints, *, reconciled: Callable[[], None]) -> None:
    """Register the task. reconciled: called when it has done what was due."""

    @app.task(name=RECONCILE)
    def reconcile(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        reconciler.plan()
        hints.of_events(reconciler.work())
        reconciled()
