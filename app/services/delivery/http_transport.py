"""POST jobs to endpoints: hundreds at a time, in one event loop with a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
import uvloop

from app.domain.delivery_answer import Answer
from app.ids import JOB, show
from app.outbound.sending import TIMEOUT, HttpSender, HttpTarget
from app.services.delivery.dispatch import Handover, Landing, Outcome
from app.telemetry import get_logger

GATHER_SECONDS: Final = 0.005  # outcomes land in lots: each landing wakes the thread that records them

log = get_logger(__name__)


@dataclass(slots=True)
class HttpCarrier:
    """Its thread begins with the first job. Who starts jobs bounds how many are under way."""

    open_sender: Callable[[], HttpSender]
    landing: Landing
    clock: Callable[[], datetime]
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _sender: HttpSender | None = field(default=None, init=False)
    _tasks: dict[asyncio.Task[Answer], tuple[Handover, datetime]] = field(default_factory=dict, init=False)
    _gathered: list[Outcome] = field(default_factory=list, init=False)

    def start(self, handovers: Sequence[Handover]) -> None:
        """On their way, each by itself."""
        if not handovers:
            return
        if self._loop is None:
            self._loop = uvloop.new_event_loop()
            self._thread = threading.Thread(target=self._serve, name="endpoints", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, handovers)

    def close(self) -> None:
        """Whatever is not answered yet lands as interrupted."""
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

    def _begin(self, handovers: Sequence[Handover]) -> None:
        loop, started_at = asyncio.get_running_loop(), self.clock()
        for one in handovers:
            task = loop.create_task(self._carry(one))
            self._tasks[task] = one, started_at
            task.add_done_callback(self._carried)

    async def _carry(self, one: Handover) -> Answer:
        try:
            if self._sender is None:
                self._sender = self.open_sender()
            target = HttpTarget(one.target.url or "", one.keys, one.target.timeout_seconds or TIMEOUT)
            body = msgspec.json.encode(one.document)
            return await self._sender.send(target, message_id=one.document["id"], body=body)
        except Exception as fault:
            # A task that dies silently would leave its job under way for ever.
            log.exception("handover_fault", job_id=show(JOB, one.job.id))
            return Answer(error=f"a fault of Waylink's: {type(fault).__name__}", ours=True)

    def _carried(self, task: asyncio.Task[Answer]) -> None:
        one, started_at = self._tasks.pop(task)
        interrupted = task.cancelled()
        self._gathered.append(Outcome(one, started_at, Answer() if interrupted else task.result(), interrupted))
        if not self._tasks:
            self._land()  # nothing more comes that it could wait for
        elif len(self._gathered) == 1:
            asyncio.get_running_loop().call_later(GATHER_SECONDS, self._land)

    def _land(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            self.landing.land(gathered)

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        asyncio.get_running_loop().create_task(self._stop(list(self._tasks)))

    async def _stop(self, tasks: Sequence[asyncio.Task[Answer]]) -> None:
        await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.get_running_loop().stop()
