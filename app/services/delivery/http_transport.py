"""POST jobs to endpoints: hundreds at a time, in an event loop that runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
import uvloop

from app.domain.delivery_answer import DeliveryAnswer
from app.outbound.sending import TIMEOUT, HttpSender, HttpTarget
from app.services.delivery.in_flight import AttemptResult, DeliveryAttempt, InFlight
from app.telemetry import get_logger

GATHER_SECONDS: Final = 0.005  # results are completed in groups, as each completion wakes the delivering thread

log = get_logger(__name__)


@dataclass(slots=True)
class HttpTransport:
    """POSTs jobs concurrently, without a limit of its own: `Slots` limits what is in flight.

    The thread starts with the first job.
    """

    open_sender: Callable[[], HttpSender]
    in_flight: InFlight
    clock: Callable[[], datetime]
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _sender: HttpSender | None = field(default=None, init=False)
    _tasks: dict[asyncio.Task[DeliveryAnswer], tuple[DeliveryAttempt, datetime]] = field(
        default_factory=dict, init=False
    )
    _gathered: list[AttemptResult] = field(default_factory=list, init=False)

    def start(self, attempts: Sequence[DeliveryAttempt]) -> None:
        """POST in the background, one request per attempt."""
        if not attempts:
            return
        if self._loop is None:
            self._loop = uvloop.new_event_loop()
            self._thread = threading.Thread(target=self._serve, name="endpoints", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, attempts)

    def close(self) -> None:
        """Cancel what is in flight, complete it as interrupted, and join the thread."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join()
            self._loop = self._thread = self._sender = None

    # In the loop's thread

    def _serve(self) -> None:
        assert self._loop is not None  # noqa: S101 - `start` made it
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if self._sender is not None:
                self._loop.run_until_complete(self._sender.aclose())
        finally:
            self._loop.close()

    def _begin(self, attempts: Sequence[DeliveryAttempt]) -> None:
        loop, started_at = asyncio.get_running_loop(), self.clock()
        for attempt in attempts:
            task = loop.create_task(self._post(attempt))
            self._tasks[task] = attempt, started_at
            task.add_done_callback(self._gather)

    async def _post(self, attempt: DeliveryAttempt) -> DeliveryAnswer:
        try:
            if self._sender is None:
                self._sender = self.open_sender()
            target = HttpTarget(attempt.target.url or "", attempt.keys, attempt.target.timeout_seconds or TIMEOUT)
            body = msgspec.json.encode(attempt.document)
            return await self._sender.send(
                target, message_id=attempt.document["id"], body=body, traceparent=attempt.traceparent
            )
        except Exception as fault:
            # An exception that ended the task would leave its job in flight for ever.
            log.exception("handover_fault", **attempt.ids)
            return DeliveryAnswer(error=f"a fault of Waylink's: {type(fault).__name__}", ours=True)

    def _gather(self, task: asyncio.Task[DeliveryAnswer]) -> None:
        attempt, started_at = self._tasks.pop(task)
        interrupted = task.cancelled()
        answer = DeliveryAnswer() if interrupted else task.result()
        self._gathered.append(AttemptResult(attempt, started_at, answer, interrupted))
        if not self._tasks:
            self._complete()  # no further result to wait for
        elif len(self._gathered) == 1:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._complete)

    def _complete(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            self.in_flight.complete(gathered)

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        asyncio.get_running_loop().create_task(self._stop(list(self._tasks)))

    async def _stop(self, tasks: Sequence[asyncio.Task[DeliveryAnswer]]) -> None:
        await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.get_running_loop().stop()
