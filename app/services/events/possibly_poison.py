"""Work on possibly poison rows, one at a time: their last claim brought no result, so they may kill their worker."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from app.deadlines import POSSIBLY_POISON_SECONDS

Result = TypeVar("Result")

EVERY: Final = timedelta(seconds=1)  # each claim is a transaction, and most find no row


@dataclass(slots=True)
class PossiblyPoison:
    """Claims them one by one, and pauses for `EVERY` when there are none."""

    clock: Callable[[], datetime]
    _next_at: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)

    def each(self, take: Callable[[], Result | None]) -> list[Result]:
        """Call `take` until it returns None, or until fresh work has waited for POSSIBLY_POISON_SECONDS."""
        done: list[Result] = []
        if self.clock() < self._next_at:
            return done
        ends_at = time.monotonic() + POSSIBLY_POISON_SECONDS
        while time.monotonic() < ends_at:
            result = take()
            if result is None:
                self._next_at = self.clock() + EVERY
                break
            done.append(result)
        return done
