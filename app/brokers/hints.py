"""Hints for workers: ids of committed rows. The database is the truth; the sweep finds the rows of lost hints."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.brokers.celery_broker import BULK_RUNS, DELIVER_JOBS, PROCESS_EVENTS, RECONCILE, Broker, hint
from app.brokers.messages import Message
from app.deadlines import BATCH
from app.errors import BrokerUnavailable
from app.ids import EVENT, JOB, new_id, show
from app.telemetry import HINTS_LOST, get_logger

# The pause is that many times the duration of the failed send: five seconds for a broker that hangs, next to none for
# one that refuses at once. The sweep runs every second.
REST_FACTOR: Final = 10
LONGEST_REST: Final = 5.0  # seconds

log = get_logger(__name__)


@dataclass(slots=True)
class Hints:
    """The only sender of hints. Never raises BrokerUnavailable, and pauses after one."""

    internal: Broker
    _rests_until: float = field(default=0.0, init=False)

    def of_events(self, ids: Iterable[UUID]) -> None:
        self._send_ids(PROCESS_EVENTS, [show(EVENT, event_id) for event_id in dict.fromkeys(ids)])

    def of_jobs(self, ids: Iterable[UUID]) -> None:
        self._send_ids(DELIVER_JOBS, [show(JOB, job_id) for job_id in dict.fromkeys(ids)])

    def of_due_events(self, batches: int) -> None:
        """Send hints without ids: each makes a worker claim one batch of due events."""
        self._send(PROCESS_EVENTS, [hint(PROCESS_EVENTS, new_id().hex) for _ in range(batches)])

    def of_reconciliation(self) -> None:
        self._send(RECONCILE, [hint(RECONCILE, new_id().hex)])

    def of_bulk_runs(self) -> None:
        self._send(BULK_RUNS, [hint(BULK_RUNS, new_id().hex)])

    def _send_ids(self, task: str, ids: Sequence[str]) -> None:
        starts = range(0, len(ids), BATCH)
        self._send(task, [hint(task, new_id().hex, ids[start : start + BATCH]) for start in starts], ids=len(ids))

    def _send(self, task: str, messages: Sequence[Message], *, ids: int = 0) -> None:
        if not messages:
            return
        began = time.monotonic()
        if began < self._rests_until:
            HINTS_LOST.inc()
            return
        try:
            self.internal.send(messages)
        except BrokerUnavailable as away:
            now = time.monotonic()
            self._rests_until = now + min(REST_FACTOR * (now - began), LONGEST_REST)
            HINTS_LOST.inc()
            log.warning("hints_lost", task=task, ids=ids, problem=str(away), then="the sweep sends them")
