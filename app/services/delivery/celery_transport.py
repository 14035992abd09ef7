"""Publish jobs to Celery brokers: one batch at a time per broker, each in a thread."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from app.brokers.celery_broker import Broker, Message
from app.db.destinations import DeliveryTarget
from app.domain.delivery_answer import DeliveryAnswer
from app.errors import BrokerUnavailable, WaylinkError
from app.ids import JOB, show
from app.services.delivery.in_flight import AttemptResult, DeliveryAttempt, InFlight
from app.services.delivery.slots import SealedUrl
from app.telemetry import get_logger

AT_ONCE: Final = 32  # brokers published to in parallel; a publish takes some seconds at most
UNUSED_SECONDS: Final = 60.0  # a team's own broker is closed after that long without a publish

log = get_logger(__name__)


@dataclass(slots=True)
class CeleryTransport:
    """Publishes to the default broker and to teams' own brokers. A slow broker delays only its own jobs."""

    default: Broker
    own: Callable[[DeliveryTarget], Broker]  # opens a team's own broker. Raises WaylinkError
    in_flight: InFlight
    clock: Callable[[], datetime]
    _threads: ThreadPoolExecutor = field(init=False)
    _busy: Counter[SealedUrl] = field(default_factory=Counter, init=False)  # batches being published, by broker
    _opened: dict[SealedUrl, Broker] = field(default_factory=dict, init=False, repr=False)
    _used_at: dict[SealedUrl, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="publish")

    def is_busy(self, url: SealedUrl) -> bool:
        """True while a batch is being published to that broker."""
        return self._busy[url] > 0

    def start(self, attempts: Sequence[DeliveryAttempt]) -> None:
        """Publish in the background, one batch per broker. A possibly poison job gets a batch of its own."""
        batches: dict[tuple[SealedUrl, UUID | None], list[DeliveryAttempt]] = {}
        for attempt in attempts:
            alone = attempt.job.id if attempt.possibly_poison else None
            batches.setdefault((attempt.target.broker_sealed, alone), []).append(attempt)
        with self.in_flight.changed:
            self._busy.update(url for url, _ in batches)
        for (url, _), batch in batches.items():
            self._threads.submit(self._publish, url, batch)

    def _publish(self, url: SealedUrl, batch: Sequence[DeliveryAttempt]) -> None:
        started_at, started = self.clock(), time.monotonic()
        error, ours = None, False
        try:
            self._broker(url, batch[0].target).send([_message(attempt) for attempt in batch])
        except BrokerUnavailable as unavailable:
            error = str(unavailable)
        except WaylinkError as wrong:
            error, ours = str(wrong), True
        except Exception as fault:
            # An exception that ended the thread would leave its jobs in flight for ever.
            log.exception("handover_fault", jobs=len(batch))
            error, ours = f"a fault of Waylink's: {type(fault).__name__}", True
        answer = DeliveryAnswer(error=error, ours=ours, latency_ms=(time.monotonic() - started) * 1000)
        with self.in_flight.changed:
            self._busy[url] -= 1
        self.in_flight.complete([AttemptResult(attempt, started_at, answer) for attempt in batch])

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


def _message(attempt: DeliveryAttempt) -> Message:
    job_id = show(JOB, attempt.job.id)
    return Message(
        queue=attempt.target.queue or "", task=attempt.job.name, task_id=job_id, kwargs={"job": attempt.document}
    )
