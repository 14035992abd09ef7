"""Rows whose last claim brought no result may have killed their worker: they are worked on one at a time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from app.deadlines import SUSPECTS_SECONDS

Result = TypeVar("Result")

EVERY: Final = timedelta(seconds=1)  # a look is a transaction, and most find nobody


@dataclass(slots=True)
class Suspects:
    """When a process looks for them."""

    clock: Callable[[], datetime]
    _look_at: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)

    def each(self, take: Callable[[], Result | None]) -> list[Result]:
        """Take one after the other until there is none, or until fresh work has waited long enough."""
        done: list[Result] = []
        if self.clock() < self._look_at:
            return done
        ends_at = time.monotonic() + SUSPECTS_SECONDS
        while time.monotonic() < ends_at:
            one = take()
            if one is None:
                self._look_at = self.clock() + EVERY
                break
            done.append(one)
        return done
