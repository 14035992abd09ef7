"""Deletion of old events with their jobs, and of past refreshes, in small steps so that other work is not delayed.

Each step is a transaction.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from app.db import refreshes as refresh_rows
from app.db import retention as rows
from app.db import ticks
from app.db.engine import Database
from app.db.retention import Forgotten
from app.services.bulk_actions import yield_write_lock

SECONDS_PER_RUN: Final = 10.0  # the next tick continues
AIM_SECONDS: Final = 0.03  # of one transaction: on SQLite all writers wait for it
FEWEST, FIRST, MOST = 10, 20, 500  # events, or refreshes, of one transaction
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before any row
DEATHS_KEPT: Final = timedelta(days=365)  # refreshes that found a grant to be dead
RESTART_AFTER: Final = timedelta(hours=1)  # from the oldest event on: rows that had to stay may be deletable by then


@dataclass(slots=True)
class Pace:
    """The number of rows of the next transaction, by the time that the last one took."""

    database: Database
    size: int = FIRST

    def took(self, seconds: float) -> None:
        """Fit the size to that time, and leave as much time to other transactions."""
        self.size = min(MOST, max(FEWEST, int(self.size * AIM_SECONDS / max(seconds, 0.001))))
        yield_write_lock(self.database, seconds)


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
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.database)

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
                ids = rows.page(session, after=self._after, before=now - self.keep, limit=self._pace.size)
            if not ids:
                with self.database.write() as session:
                    ticks.note(session, ticks.EVENTS_PRUNED, now=now)
                break
            began = time.monotonic()
            with self.database.write() as session:
                gone += rows.forget(session, ids, before=now - self.keep)
            self._after = ids[-1]
            self._pace.took(time.monotonic() - began)
        return gone


@dataclass(slots=True)
class RefreshRetention:
    """Deletion of refreshes that ended that long ago; made once per process. keep: None keeps everything.

    Those that found a grant to be dead stay for a year at least: lives of grants are learnt from them.
    """

    database: Database
    keep: timedelta | None
    clock: Callable[[], datetime]
    _since: datetime = field(default=EARLIEST, init=False)  # nothing that ended before is left
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.database)

    def run(self, *, seconds: float = SECONDS_PER_RUN) -> int:
        """Continue deleting, for `seconds` at most. Returns how many are gone."""
        if self.keep is None:
            return 0
        now, total, ends_at = self.clock(), 0, time.monotonic() + seconds
        old, dead = now - self.keep, now - max(self.keep, DEATHS_KEPT)
        while time.monotonic() < ends_at:
            began, size = time.monotonic(), self._pace.size
            with self.database.write() as session:
                gone = refresh_rows.prune(session, since=self._since, before=old, limit=size)
                deaths = refresh_rows.prune_deaths(session, before=dead, limit=size)
            total += gone + deaths
            if gone < size:
                self._since = old
            if gone < size and deaths < size:
                with self.database.write() as session:
                    ticks.note(session, ticks.REFRESHES_PRUNED, now=now)
                break
            self._pace.took(time.monotonic() - began)
        return total
