"""The tick of the refresh task, by which it is noticed that none comes any more.

Opens short transactions.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from app.db import ticks
from app.db.engine import Database

EVERY: Final = timedelta(seconds=10)  # between two writes of all processes; Beat ticks every 5 seconds


@dataclass(slots=True)
class Ticker:
    """Notes ticks of one process. It may be called as often as one likes."""

    database: Database
    clock: Callable[[], datetime]
    _next_at: float = field(default=float("-inf"), init=False)  # monotonic

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            note_tick(self.database, now=self.clock())
            self._next_at = now + EVERY.total_seconds()


def note_tick(database: Database, *, now: datetime) -> None:
    """Record that the refresh task runs, unless that was recorded within EVERY."""
    with database.read() as session:
        before = ticks.last(session, ticks.REFRESH_DUE)
    if before is None or before <= now - EVERY:
        with database.write() as session:
            ticks.note(session, ticks.REFRESH_DUE, now=now)
