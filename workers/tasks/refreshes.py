"""`waylink.refresh_due`: due token refreshes."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from celery import Celery
from celery.signals import worker_shutting_down

from app.brokers.celery_broker import REFRESH_DUE
from app.services.refreshing.refresher import Refresher
from app.telemetry import get_logger

SECONDS_PER_CALL: Final = 60.0  # of claims; the last of them may take a lease longer, and the next tick continues

log = get_logger(__name__)


def register(
    app: Celery,
    refresher: Refresher,
    *,
    tick: Callable[[], None],
    keep: Callable[[], None] = lambda: None,
    follow: Callable[[], None] = lambda: None,
    refreshed: Callable[[], None] = lambda: None,
) -> None:
    """Register the task. Of several ticks that a process takes at once, one works: it has all places.

    tick: records that the task runs. keep: balances what is due against the request budget. follow: has plans follow
    a changed policy. refreshed: called when refreshes were carried out.
    """
    running, stopping = threading.Lock(), threading.Event()

    def stop_claiming(**_: object) -> None:
        stopping.set()

    worker_shutting_down.connect(stop_claiming, weak=False)

    @app.task(name=REFRESH_DUE)
    def refresh_due(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        if not running.acquire(blocking=False):
            return

        def is_over() -> bool:
            tick()
            return stopping.is_set() or time.monotonic() > ends_at

        try:
            tick()
            keep()
            follow()
            ends_at = time.monotonic() + SECONDS_PER_CALL
            total = refresher.refresh_due(limit=sys.maxsize, is_over=is_over)
        finally:
            running.release()
        if total:
            refreshed()
            log.info("tokens_refreshed", plans=total)
