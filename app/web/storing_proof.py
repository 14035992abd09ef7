"""The proof that storing works: a write of this process that was committed in the last seconds."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PROVEN_SECONDS: Final = 5.0  # a write proves for so long that storing works
AGAIN_SECONDS: Final = 2.0  # after a write that failed, before another is asked for


def _tell_nobody() -> None: ...


@dataclass(slots=True)
class StoringProof:
    """The result of the last write of a process. stored: called after each write that succeeded.

    trouble: the name of what made it fail; None after one that succeeded.
    """

    stored: Callable[[], None] = _tell_nobody
    trouble: str | None = field(default=None, init=False)
    _at: float = field(default=float("-inf"), init=False)  # of the last write, on the monotonic clock
    _asked: asyncio.Future[None] | None = field(default=None, init=False)

    @property
    def is_asked_for(self) -> bool:
        """Whether a write is to be made, though no webhook waits."""
        return self._asked is not None

    def holds(self, seconds: float = PROVEN_SECONDS) -> bool:
        """Whether the last write succeeded, and was in the last `seconds`."""
        return self.trouble is None and time.monotonic() - self._at < seconds

    async def ask(self, wake: Callable[[], None], *, within: float) -> None:
        """Ask for a write, and wait for the result of the next one. All who ask wait for the same."""
        if self.trouble is not None and time.monotonic() - self._at < AGAIN_SECONDS:
            return
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            wake()
        await asyncio.wait([self._asked], timeout=within)

    def learn(self, trouble: str | None) -> None:
        """Note the result of a write, and tell those who wait for it."""
        self.trouble, self._at = trouble, time.monotonic()
        if trouble is None:
            self.stored()
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(None)
