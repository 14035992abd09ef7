"""Publish jobs to Celery brokers: one batch at a time per broker, each in a thread.

Batches that come while one is being published wait, and leave together after it.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from app.brokers.celery_broker import Broker
from app.brokers.messages import Message
from app.db.destinations import DeliveryTarget
from app.deadlines import DATABASE_SHARE, JOB_LEASE, PUBLISH_DEADLINE
from app.domain.delivery_answer import DeliveryAnswer
from app.errors import BrokerUnavailable, WaylinkError
from app.ids import JOB, show
from app.services.delivery.in_flight import AttemptResult, DeliveryAttempt, InFlight
from app.services.delivery.slots import SealedUrl
from app.telemetry import get_logger

AT_ONCE: Final = 32  # brokers published to in parallel; a publish takes some seconds at most
SHOWN: Final = 10  # jobs of a batch that a log line names
UNUSED_SECONDS: Final = 60.0  # a team's own broker is closed after that long without a publish
# After waiting longer, a batch could be published beyond the lease of its jobs.
LONGEST_WAIT: Final = (JOB_LEASE - PUBLISH_DEADLINE - DATABASE_SHARE).total_seconds()
TOO_SLOW: Final = f"the broker took more than {LONGEST_WAIT:g} s for the jobs before"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Attempts to publish together. `alone`: it is one possibly poison job. `since`: when it was handed over."""

    attempts: Sequence[DeliveryAttempt]
    alone: bool
    since: float  # monotonic


@dataclass(slots=True)
class CeleryTransport:
    """Publishes to the default broker and to teams' own brokers. A slow broker delays only its own jobs."""

    default: Broker
    own: Callable[[DeliveryTarget], Broker]  # opens a team's own broker. Raises WaylinkError
    in_flight: InFlight
    clock: Callable[[], datetime]
    _threads: ThreadPoolExecutor = field(init=False)
    # By broker: the batches that wait for the one being published. No entry: none is being published.
    _waiting: dict[SealedUrl, list[_Batch]] = field(default_factory=dict, init=False)
    _opened: dict[SealedUrl, Broker] = field(default_factory=dict, init=False, repr=False)
    _used_at: dict[SealedUrl, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="publish")

    def is_busy(self, url: SealedUrl) -> bool:
        """True while a batch is being published to that broker."""
        return url in self._waiting

    def start(self, attempts: Sequence[DeliveryAttempt]) -> None:
        """Publish in the background, one batch per broker. A possibly poison job gets a batch of its own."""
        batches: dict[tuple[SealedUrl, UUID | None], list[DeliveryAttempt]] = {}
        for attempt in attempts:
            alone = attempt.job.id if attempt.possibly_poison else None
            batches.setdefault((attempt.target.broker_sealed, alone), []).append(attempt)
        now = time.monotonic()
        with self.in_flight.changed:
            for (url, alone), together in batches.items():
                batch = _Batch(together, alone is not None, now)
                if url in self._waiting:
                    self._waiting[url].append(batch)
                else:
                    self._waiting[url] = []
                    self._threads.submit(self._publish_all, url, batch)

    def _publish_all(self, url: SealedUrl, batch: _Batch) -> None:
        """Publish a batch, and those that are handed over meanwhile."""
        next_: _Batch | None = batch
        while next_ is not None:
            results = self._publish(url, next_.attempts)
            next_, late = self._next(url)
            # The broker is free by now, so that these results lead to the next claim.
            self.in_flight.complete([*results, *late])

    def _next(self, url: SealedUrl) -> tuple[_Batch | None, list[AttemptResult]]:
        """The waiting jobs to publish together, if there are any, and the failures of those that waited too long."""
        now = time.monotonic()
        with self.in_flight.changed:
            waiting = self._waiting.pop(url)
            in_time = [batch for batch in waiting if now - batch.since <= LONGEST_WAIT]
            next_, rest = _joined(in_time)
            if next_ is not None:
                self._waiting[url] = rest
        late = (attempt for batch in waiting if now - batch.since > LONGEST_WAIT for attempt in batch.attempts)
        answer, started_at = DeliveryAnswer(error=TOO_SLOW), self.clock()
        return next_, [AttemptResult(attempt, started_at, answer) for attempt in late]

    def _publish(self, url: SealedUrl, attempts: Sequence[DeliveryAttempt]) -> list[AttemptResult]:
        started_at, started = self.clock(), time.monotonic()
        error, ours = None, False
        try:
            self._broker(url, attempts[0].target).send([_message(attempt) for attempt in attempts])
        except BrokerUnavailable as unavailable:
            error = str(unavailable)
        except WaylinkError as wrong:
            error, ours = str(wrong), True
        except Exception as fault:
            # An exception that ended the thread would leave its jobs in flight for ever.
            ids = [show(JOB, attempt.job.id) for attempt in attempts[:SHOWN]]
            log.exception("handover_fault", jobs=ids, count=len(attempts))
            error, ours = f"a fault of Waylink's: {type(fault).__name__}", True
        answer = DeliveryAnswer(error=error, ours=ours, latency_ms=(time.monotonic() - started) * 1000)
        return [AttemptResult(attempt, started_at, answer) for attempt in attempts]

    def _broker(self, url: SealedUrl, target: DeliveryTarget) -> Broker:
        if url is None:
            return self.default
        if url not in self._opened:
            self._opened[url] = self.own(target)
        self._used_at[url] = time.monotonic()
        return self._opened[url]

    def close_unused(self) -> None:
        """Close teams' own brokers that were not published to for UNUSED_SECONDS."""
        before = time.monotonic() - UNUSED_SECONDS
        for url in [url for url, used_at in self._used_at.items() if used_at < before and not self.is_busy(url)]:
            del self._used_at[url]
            self._opened.pop(url).close()

    def close(self) -> None:
        """Wait for the batches in flight, some seconds at most, and close all brokers of teams."""
        self._threads.shutdown()
        for broker in self._opened.values():
            broker.close()


def _joined(batches: Sequence[_Batch]) -> tuple[_Batch | None, list[_Batch]]:
    """The first batch, with all others that need not be alone, and the rest."""
    if not batches or batches[0].alone:
        return (batches[0] if batches else None), list(batches[1:])
    together = [attempt for batch in batches if not batch.alone for attempt in batch.attempts]
    return _Batch(together, alone=False, since=batches[0].since), [batch for batch in batches if batch.alone]


def _message(attempt: DeliveryAttempt) -> Message:
    job_id = show(JOB, attempt.job.id)
    return Message(
        queue=attempt.target.queue or "",
        task=attempt.job.name,
        task_id=job_id,
        kwargs={"job": attempt.document},
        traceparent=attempt.traceparent,
    )
