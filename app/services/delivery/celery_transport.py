"""Publish jobs to brokers: one batch at a time to each, in a thread of its own."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from app.brokers.celery_broker import Broker, Message
from app.db.destinations import Target
from app.domain.delivery_answer import Answer
from app.errors import BrokerUnavailable, WaylinkError
from app.ids import JOB, show
from app.services.delivery.dispatch import Handover, Landing, Outcome
from app.services.delivery.slots import Lane
from app.telemetry import get_logger

AT_ONCE: Final = 32  # brokers that are being published to; each takes some seconds at most
UNUSED_SECONDS: Final = 60.0  # a team's own broker that nothing went to for so long is let go

log = get_logger(__name__)


@dataclass(slots=True)
class BrokerCarrier:
    """Publishes to the teams' default broker and to those of their own. A slow broker delays its own jobs only."""

    default: Broker
    own: Callable[[Target], Broker]  # opens a team's own. Raises WaylinkError
    landing: Landing
    clock: Callable[[], datetime]
    _threads: ThreadPoolExecutor = field(init=False)
    _busy: Counter[Lane] = field(default_factory=Counter, init=False)  # batches on their way
    _opened: dict[Lane, Broker] = field(default_factory=dict, init=False, repr=False)
    _used_at: dict[Lane, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="publish")

    def is_busy(self, lane: Lane) -> bool:
        return self._busy[lane] > 0

    def start(self, handovers: Sequence[Handover]) -> None:
        """On their way, one batch for each broker; a suspect goes alone."""
        batches: dict[tuple[Lane, UUID | None], list[Handover]] = {}
        for one in handovers:
            batches.setdefault((one.target.broker_sealed, one.job.id if one.suspect else None), []).append(one)
        with self.landing.changed:
            self._busy.update(lane for lane, _ in batches)
        for (lane, _), batch in batches.items():
            self._threads.submit(self._publish, lane, batch)

    def _publish(self, lane: Lane, batch: Sequence[Handover]) -> None:
        started_at, started = self.clock(), time.monotonic()
        error, ours = None, False
        try:
            self._broker(lane, batch[0].target).send([_message(one) for one in batch])
        except BrokerUnavailable as unavailable:
            error = str(unavailable)
        except WaylinkError as wrong:
            error, ours = str(wrong), True
        except Exception as fault:
            # A thread that dies silently would leave its jobs under way for ever.
            log.exception("handover_fault", jobs=len(batch))
            error, ours = f"a fault of Waylink's: {type(fault).__name__}", True
        answer = Answer(error=error, ours=ours, latency_ms=(time.monotonic() - started) * 1000)
        with self.landing.changed:
            self._busy[lane] -= 1
        self.landing.land([Outcome(one, started_at, answer) for one in batch])

    def _broker(self, lane: Lane, target: Target) -> Broker:
        if lane is None:
            return self.default
        if lane not in self._opened:
            self._opened[lane] = self.own(target)
        self._used_at[lane] = time.monotonic()
        return self._opened[lane]

    def close_unused(self) -> None:
        """Let go of brokers of teams' own that nothing went to for a while."""
        before = time.monotonic() - UNUSED_SECONDS
        for lane in [lane for lane, used_at in self._used_at.items() if used_at < before and not self.is_busy(lane)]:
            del self._used_at[lane]
            self._opened.pop(lane).close()

    def close(self) -> None:
        """Waits for what is under way, which takes some seconds at most."""
        self._threads.shutdown()
        for broker in self._opened.values():
            broker.close()


def _message(one: Handover) -> Message:
    job_id = show(JOB, one.job.id)
    return Message(queue=one.target.queue or "", task=one.job.name, task_id=job_id, kwargs={"job": one.document})
