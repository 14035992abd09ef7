"""Threads for calls that block, with a bound on how many calls wait for one."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from app.web.api.problems import BUSY, Refusal

MAX_WAITING: Final = 64  # calls that wait for a thread; those beyond are told to come back
# Seconds for a thread. Web closes a connection after 60 s, and an operation takes 51 at most: nothing is begun of whose
# end nobody would hear.
LONGEST_WAIT: Final = 5.0


@dataclass(slots=True)
class Pool:
    """Threads of one kind of work. Other kinds do not wait for them."""

    threads: int
    name: str
    _executor: ThreadPoolExecutor = field(init=False)
    _under_way: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)

    async def run(self, work: Callable[[], Any]) -> Any:
        """What the work returns. Raises Refusal where too many wait, or it did not get its turn in time."""
        if self._under_way >= self.threads + MAX_WAITING:
            raise _busy()
        give_up_at = time.monotonic() + LONGEST_WAIT

        def in_time() -> Any:
            if time.monotonic() > give_up_at:
                raise _busy()
            return work()

        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, in_time)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _busy() -> Refusal:
    return Refusal(BUSY, "Too many calls are under way, and nothing was done. Try again.", headers={"retry-after": "1"})
