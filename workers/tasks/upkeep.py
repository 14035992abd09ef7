"""`waylink.sweep`, `waylink.link_waiting` and `waylink.prune`: lost hints, late links, and ended rows."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from celery import Celery

from app.brokers.celery_broker import EVENTS_QUEUE, LINK_WAITING, PRUNE, SWEEP
from app.brokers.hints import Hints
from app.clock import utc_now
from app.db.engine import Database
from app.services.definitions.destination_alerts import Alerts
from app.services.maintenance import upkeep
from app.services.maintenance.retention import RefreshRetention, Retention
from app.telemetry import get_logger

log = get_logger(__name__)


def register(
    app: Celery,
    database: Database,
    hints: Hints,
    retention: Retention,
    past_refreshes: RefreshRetention,
    *,
    link: Callable[[], int],
    foresee: Callable[[], int],
    window: timedelta,
    audit_kept: timedelta | None,
    alerts: Alerts,
    swept: Callable[[], None] = lambda: None,
    pruned: Callable[[], None] = lambda: None,
) -> None:
    """`link`: links waiting connections by the directory policy, and returns the number of connections checked.
    `foresee`: stores the day's forecasts of refreshes. `swept`, `pruned`: called when that task is done.
    """

    @app.task(name=SWEEP)
    def sweep(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        alerts.announce_waiting(database, clock=utc_now)
        batches = upkeep.due_batches(database, now=utc_now())
        # Messages that are still in the queue already announce the work.
        if batches and hints.internal.queue_length(EVENTS_QUEUE) == 0:
            hints.of_due_events(batches)
        swept()

    @app.task(name=LINK_WAITING)
    def link_waiting(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        checked = link()
        if checked:
            log.info("waiting_connections_looked_at", connections=checked)

    @app.task(name=PRUNE)
    def prune(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        upkeep.recheck_repeats(database, now=utc_now())
        gone = upkeep.prune(database, window=window, audit_kept=audit_kept, clock=utc_now)
        if gone:
            log.info("rows_pruned", rows=gone)
        history = retention.run()
        if history.events or history.jobs:
            log.info("history_pruned", events=history.events, jobs=history.jobs, never_delivered=history.discarded)
        if refreshes := past_refreshes.run():
            log.info("refreshes_pruned", rows=refreshes)
        pruned()
        foresee()  # last: at the size of a large database it is what might take too long
