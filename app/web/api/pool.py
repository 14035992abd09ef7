"""Threads for calls that block, with a bound on how many calls wait for one."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from app.web.api.problems import BUSY, TOO_MANY_CALLS, Refusal

MAX_WAITING: Final = 64  # calls that wait for a thread; those beyond are told to come back
# Seconds for a thread. Web closes a connection after 60 s, and an operation takes 51 at most: nothing is begun of whose
# end nobody would hear.
LONGEST_WAIT: Final = 5.0
MAX_OWN: Final = 4  # calls of one caller, that one by one take long


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


@dataclass(slots=True)
class Turns:
    """One call of a caller at a time, and a few that wait for it, so that no caller has all threads of a pool."""

    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)
    _calls: Counter[str] = field(default_factory=Counter, init=False)

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """The caller's turn. Raises Refusal where too many wait for it, or it did not come in time."""
        if self._calls[caller] >= MAX_OWN:
            detail = f"{MAX_OWN} of these calls are under way for {caller}. Wait for their answers."
            raise Refusal(TOO_MANY_CALLS, detail, headers={"retry-after": "1"})
        self._calls[caller] += 1
        lock = self._locks.setdefault(caller, asyncio.Lock())
        try:
            try:
                async with asyncio.timeout(LONGEST_WAIT):
                    await lock.acquire()
            except TimeoutError:
                raise _busy() from None
            try:
                yield
            finally:
                lock.release()
        finally:
            self._calls[caller] -= 1
            if not self._calls[caller]:
                del self._calls[caller], self._locks[caller]


def _busy() -> Refusal:
    return Refusal(BUSY, "Too many calls are under way, and nothing was done. Try again.", headers={"retry-after": "1"})
