"""Tell the workers of what was committed elsewhere than in ingest. What is lost here, the sweep makes up for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.brokers.celery_broker import DELIVER_JOBS, PROCESS_EVENTS, Broker, hint
from app.deadlines import BATCH
from app.errors import BrokerUnavailable
from app.ids import EVENT, JOB, new_id, show
from app.telemetry import HINTS_LOST, get_logger

SILENCE_SECONDS: Final = 5.0  # after a broker did not answer: each try takes seconds, and the sweep is every second

log = get_logger(__name__)


@dataclass(slots=True)
class Hints:
    """Sends hints through the internal broker, and minds a broker that is away as little as can be."""

    internal: Broker
    _silent_until: float = field(default=0.0, init=False)

    def of_jobs(self, ids: Sequence[UUID]) -> None:
        self._send(DELIVER_JOBS, [show(JOB, one) for one in ids])

    def of_events(self, ids: Sequence[UUID]) -> None:
        self._send(PROCESS_EVENTS, [show(EVENT, one) for one in ids])

    def _send(self, task: str, ids: Sequence[str]) -> None:
        if time.monotonic() < self._silent_until:
            return
        starts = range(0, len(ids), BATCH)
        try:
            self.internal.send([hint(task, new_id().hex, ids[start : start + BATCH]) for start in starts])
        except BrokerUnavailable as away:
            self._silent_until = time.monotonic() + SILENCE_SECONDS
            HINTS_LOST.inc()
            log.warning("hints_lost", task=task, ids=len(ids), problem=str(away), then="the sweep sends them")
