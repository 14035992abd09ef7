"""Forget events and jobs that are over for long, a little at a time, so that nobody notices.

Opens short transactions, one per chunk of rows.
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
from app.services.bulk_actions import breathe

SECONDS_PER_RUN: Final = 10.0  # the next tick goes on
AIM_SECONDS: Final = 0.03  # of one transaction: on SQLite all who write wait for it
FEWEST, FIRST, MOST = 10, 20, 500  # events of one transaction
AGAIN_AFTER: Final = timedelta(hours=1)  # from the oldest on: what could not go before may go by then


@dataclass(slots=True)
class Retention:
    """Made once per process: it remembers how far it is. `keep`: None keeps everything.

    An event goes that long after its receipt, a job that long after it ended; an event with a job, and a job that is
    unfinished, never.
    """

    database: Database
    keep: timedelta | None
    clock: Callable[[], datetime]
    _after: UUID | None = field(default=None, init=False)
    _began_at: datetime | None = field(default=None, init=False)
    _size: int = field(default=FIRST, init=False)

    def run(self, *, seconds: float = SECONDS_PER_RUN) -> Forgotten:
        """Go on forgetting, for so long at most."""
        gone = Forgotten()
        if self.keep is None:
            return gone
        now, ends_at = self.clock(), time.monotonic() + seconds
        if self._began_at is None or now - self._began_at >= AGAIN_AFTER:
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
        """The next transaction as large as fits its time, and as much time for the others."""
        self._size = min(MOST, max(FEWEST, int(self._size * AIM_SECONDS / max(took, 0.001))))
        breathe(self.database, took)
