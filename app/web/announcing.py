"""Hints to workers about committed events, sent off the request path. The sweep makes up for lost ones."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.brokers.hints import Hints
from app.telemetry import HINTS_LOST, get_logger
from app.web.fatal_tasks import end_process_on_failure

# A message costs as much as a few stored events, here and in the worker. The first is sent at once; under load the ids
# of the following PAUSE_SECONDS share one.
PAUSE_SECONDS: Final = 0.02
STOP_SECONDS: Final = 3.0

log = get_logger(__name__)


@dataclass(slots=True)
class Announcer:
    """Collects the ids of committed events and sends them in batches, from its own thread."""

    hints: Hints
    _ids: list[UUID] = field(default_factory=list, init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _stopping: bool = field(default=False, init=False)
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="announce"), init=False
    )

    def start(self) -> None:
        self._task = end_process_on_failure(asyncio.create_task(self._loop(), name="announce"))

    def announce(self, ids: Iterable[UUID]) -> None:
        self._ids.extend(ids)
        self._news.set()

    async def stop(self) -> None:
        """Announce the remaining ids, for at most STOP_SECONDS."""
        self._stopping = True
        self._news.set()
        if self._task is not None and not (await asyncio.wait([self._task], timeout=STOP_SECONDS))[0]:
            self._task.cancel()
        self._thread.shutdown(wait=False)

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        while self._ids or not self._stopping:
            if not self._ids:
                self._news.clear()
                await self._news.wait()
                continue
            ids, self._ids = self._ids, []
            try:
                await loop.run_in_executor(self._thread, self.hints.of_events, ids)
            except Exception:  # no error of a broker's client may end this loop
                HINTS_LOST.inc()
                log.exception("hints_lost", events=len(ids), then="the sweep sends them")
            if not self._stopping:
                await asyncio.sleep(PAUSE_SECONDS)
