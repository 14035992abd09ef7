"""Deletion of old events with their jobs, in small steps so that other work is not delayed.

Each step is a transaction.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.db import retention as rows
from app.db.engine import Database
from app.db.retention import Forgotten
from app.services.bulk_actions import yield_write_lock

SECONDS_PER_RUN: Final = 10.0  # the next tick continues
AIM_SECONDS: Final = 0.03  # of one transaction: on SQLite all writers wait for it
FEWEST, FIRST, MOST = 10, 20, 500  # events of one transaction
RESTART_AFTER: Final = timedelta(hours=1)  # from the oldest event on: rows that had to stay may be deletable by then


@dataclass(slots=True)
class Retention:
    """Made once per process: it remembers its position. keep: None keeps everything.

    An event and its jobs are deleted together, that long after its receipt and after the end of the last of its jobs.
    An event that waits to be processed, or that has an unfinished job, is never deleted.
    """

    database: Database
    keep: timedelta | None
    clock: Callable[[], datetime]
    _after: UUID | None = field(default=None, init=False)
    _began_at: datetime | None = field(default=None, init=False)
    _size: int = field(default=FIRST, init=False)

    def run(self, *, seconds: float = SECONDS_PER_RUN) -> Forgotten:
        """Continue deleting, for `seconds` at most."""
        gone = Forgotten()
        if self.keep is None:
            return gone
        now, ends_at = self.clock(), time.monotonic() + seconds
        if self._began_at is None or now - self._began_at >= RESTART_AFTER:
            self._after, self._began_at = None, now
        while time.monotonic() < ends_at:
            with self.database.read() as session:
                ids = rows.page(session, after=self._after, before=now - self.keep, limit=self._size)
            if not ids:
                break
            began = time.monotonic()
            with self.database.write() as session:
                gone += rows.forget(session, ids, before=now - self.keep)
            self._after = ids[-1]
            self._pace(time.monotonic() - began)
        return gone

    def _pace(self, took: float) -> None:
        """Fit the next transaction's size to its time, and leave as much time to other transactions."""
        self._size = min(MOST, max(FEWEST, int(self._size * AIM_SECONDS / max(took, 0.001))))
        yield_write_lock(self.database, took)
