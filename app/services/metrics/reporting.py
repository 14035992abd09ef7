"""The writing of a process's counts to the database. It opens its own short transactions."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from app.db import process_metrics
from app.db.engine import Database
from app.domain.metric_counts import Counts, since
from app.ids import new_id
from app.services.metrics import own_counts


@dataclass(slots=True)
class CountsWriter:
    """Writes what this process has counted since it was made, over and over.

    A write whose outcome is unknown is repeated as it was before anything newer is written. So there is one state only
    that may have been added to the ended processes' counts unseen, where this one was silent for minutes: it goes on in
    a row of its own with what it counted afterwards, and nothing is counted twice.
    """

    database: Database
    kind: str
    clock: Callable[[], datetime]
    counted: Callable[[], Counts] = own_counts.counted
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, init=False)
    _id: UUID = field(default_factory=new_id, init=False)
    _began: bool = field(default=False, init=False)
    _start: Counts = field(init=False)  # counts that are in another row, or of before
    _written: Counts = field(init=False)
    _unsure: Counts | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._start = self._written = self.counted()

    @property
    def identity(self) -> UUID:
        """The id of the row that this process writes."""
        return self._id

    def write(self, last: bool = False) -> None:
        """Write the counts as they are. last: the process is about to end. Raises SQLAlchemyError."""
        with self._one_at_a_time:
            if self._unsure is not None:
                self._write(self._unsure, before=self._unsure, last=False)
            self._write(self.counted(), before=self._written, last=last)

    def _write(self, counts: Counts, *, before: Counts, last: bool) -> None:
        """before: what the row has, at most, if it was taken as ended meanwhile."""
        self._unsure = counts
        if not self._put(counts, last=last):
            self._id, self._began, self._start = new_id(), False, before
            self._put(counts, last=last)
        self._written, self._unsure = counts, None

    def _put(self, counts: Counts, *, last: bool) -> bool:
        if not self._began:
            # Without counts, and for itself: made a second time after an unknown outcome, it adds nothing.
            with self.database.write(durable=False) as session:
                process_metrics.begin(session, self._id, kind=self.kind, now=self.clock())
            self._began = True
        new = None if counts == self._written else since(counts, self._start)
        gauges = own_counts.gauges() if self.kind == "web" else {}  # workers have none of their own
        # On PostgreSQL a crash of its machine must not take back what a scrape has shown. On SQLite it ends all
        # processes, too, and waiting for the disk would hold up the other writers.
        with self.database.write(durable=not self.database.is_sqlite) as session:
            return process_metrics.write(session, self._id, counts=new, gauges=gauges, now=self.clock(), ended=last)
