"""Delivery attempts in flight, and the results that wait to be recorded."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from msgspec import Struct

from app.db.destinations import DeliveryTarget
from app.db.jobs import ClaimedJob
from app.domain.delivery_answer import DeliveryAnswer
from app.ids import EVENT, JOB, show
from app.telemetry import trace_of


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One attempt to deliver a job.

    `document` is the job's body, signed with `keys` over HTTP. A `probe` tests a failing destination.
    `traceparent` goes to the team as a header.
    """

    job: ClaimedJob
    target: DeliveryTarget
    document: dict[str, Any] = field(repr=False)
    keys: Sequence[bytes] = field(default=(), repr=False)
    probe: bool = False
    traceparent: str | None = None

    @property
    def possibly_poison(self) -> bool:
        """True if the job's previous claim brought no result."""
        return self.job.crashes > 1

    @property
    def ids(self) -> dict[str, str]:
        """Its ids, for a log line."""
        return {
            "job_id": show(JOB, self.job.id),
            "event_id": show(EVENT, self.job.event_id),
            **trace_of(self.traceparent),
        }


class AttemptResult(Struct, frozen=True):
    """The answer to an attempt. `interrupted`: the process stopped before there was one."""

    attempt: DeliveryAttempt
    started_at: datetime
    answer: DeliveryAnswer
    interrupted: bool = False


@dataclass(slots=True)
class InFlight:
    """Number of attempts in flight, and results not taken yet. Transports complete attempts from their own threads.

    `changed` is notified with each completion.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    count: int = 0
    _results: list[AttemptResult] = field(default_factory=list)

    def dispatched(self, count: int) -> None:
        """Add attempts that a transport is about to start."""
        with self.changed:
            self.count += count

    def complete(self, results: Sequence[AttemptResult]) -> None:
        """End attempts and keep their results for `take`."""
        with self.changed:
            self.count -= len(results)
            self._results += results
            self.changed.notify_all()

    def take(self) -> list[AttemptResult]:
        """Remove and return all results."""
        with self.changed:
            taken, self._results = self._results, []
        return taken

    @property
    def completed(self) -> int:
        """Number of results to take."""
        return len(self._results)
