"""`waylink.refresh_due`: due token refreshes, in waves."""

import time
from collections.abc import Sequence
from typing import Final

from celery import Celery

from app.brokers.celery_broker import REFRESH_DUE
from app.services.refreshing.refresher import WAVE, Refresher
from app.telemetry import get_logger

SECONDS_PER_CALL: Final = 30.0  # then the next tick continues, so that a shutdown is not delayed

log = get_logger(__name__)


def register(app: Celery, refresher: Refresher) -> None:
    @app.task(name=REFRESH_DUE)
    def refresh_due(ids: Sequence[str] = ()) -> None:  # noqa: ARG001 - every internal task takes hints
        ends_at = time.monotonic() + SECONDS_PER_CALL
        total = 0
        while True:
            taken = refresher.refresh_due()
            total += taken
            if taken < WAVE or time.monotonic() > ends_at:
                break
        if total:
            log.info("tokens_refreshed", plans=total)
