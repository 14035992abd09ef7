"""Threads for blocking calls, with a bound on the number of waiting calls."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from app.web.api.problems import BUSY, TOO_MANY_CALLS, ApiRefusal

MAX_WAITING: Final = 64  # calls that wait for a thread; further ones are refused
# Seconds for a thread. Web closes a connection after 60 s, and an operation takes 51 at most: no operation is begun
# that would end after its connection.
LONGEST_WAIT: Final = 5.0
MAX_OWN: Final = 4  # calls of one caller to endpoints that match patterns


@dataclass(slots=True)
class CallPool:
    """Threads of one kind of work, so that other kinds do not wait for them."""

    threads: int
    name: str
    _executor: ThreadPoolExecutor = field(init=False)
    _in_flight: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix=self.name)

    async def run(self, work: Callable[[], Any]) -> Any:
        """The result of `work`. Raises Refusal where too many calls wait, or this one waited for too long."""
        if self._in_flight >= self.threads + MAX_WAITING:
            raise _busy()
        give_up_at = time.monotonic() + LONGEST_WAIT

        def in_time() -> Any:
            if time.monotonic() > give_up_at:
                raise _busy()
            return work()

        self._in_flight += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, in_time)
        finally:
            self._in_flight -= 1

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class CallerLocks:
    """One call per caller at a time, with a few waiting, so that no caller occupies all threads of a pool."""

    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)
    _calls: Counter[str] = field(default_factory=Counter, init=False)

    @asynccontextmanager
    async def of(self, caller: str) -> AsyncIterator[None]:
        """Hold the caller's lock. Raises Refusal where too many calls wait for it, or this one waited for too long."""
        if self._calls[caller] >= MAX_OWN:
            detail = f"{MAX_OWN} of these calls are under way for {caller}. Wait for their answers."
            raise ApiRefusal(TOO_MANY_CALLS, detail, headers={"retry-after": "1"})
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


def _busy() -> ApiRefusal:
    return ApiRefusal(
        BUSY, "Too many calls are under way, and nothing was done. Try again.", headers={"retry-after": "1"}
    )
