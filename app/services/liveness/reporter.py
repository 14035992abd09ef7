"""The thread by which a process reports itself to the database, every few seconds, in one short transaction.

It writes when the process's loops answered last, and not that it runs itself: a process whose main loop stands still
gets old in the table although this thread goes on.
"""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib import metadata
from typing import Final

from sqlalchemy.exc import DBAPIError

from app.db import processes
from app.db.engine import Database
from app.db.processes import ProcessReport
from app.db.schema_version import head
from app.outage_causes import of_database
from app.services.liveness.pulse import Pulse
from app.telemetry import get_logger

EVERY_SECONDS: Final = 5.0
STOP_SECONDS: Final = 3.0  # for the last report
LONGEST_HOST: Final = 200  # characters

log = get_logger(__name__)


@cache
def version() -> str:
    """The version of this installation."""
    try:
        return metadata.version("waylink")
    except metadata.PackageNotFoundError:
        return "unknown"


@dataclass(slots=True)
class Reporter:
    """Writes the row of this process: one short transaction per EVERY_SECONDS. No fault of it ends the process.

    also: further writes, in transactions of their own, each told whether it is the last one.
    """

    database: Database
    pulse: Pulse
    also: Sequence[Callable[[bool], None]] = ()
    _started_at: datetime = field(init=False)
    _away: bool = field(default=False, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._started_at = self.pulse.clock()
        # Not a pool's thread: the interpreter waits for those at its end, however long the database hangs.
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Report now and then, until `stop`. To be called once."""
        self._thread.start()

    def stop(self) -> None:
        """Report that the process stops cleanly, within STOP_SECONDS."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        self.report()
        while not self._stopping.wait(EVERY_SECONDS):
            self.report()
        self.report(stopped=True)

    def report(self, *, stopped: bool = False) -> None:
        """Write the row. A fault is logged once, until a report succeeds."""
        try:
            with self.database.write(durable=False) as session:
                now = self.pulse.clock()
                processes.write(session, self._row(now, stopped=stopped))
            for write in self.also:
                write(stopped)
        except Exception as failed:  # noqa: BLE001 - no error of a driver may end this thread
            if not self._away:
                why = of_database(failed) if isinstance(failed, DBAPIError) else type(failed).__name__
                log.warning("process_not_reported", problem=why, then="it is tried again")
            self._away = True
        else:
            self._away = False

    def _row(self, now: datetime, *, stopped: bool) -> ProcessReport:
        signs = self.pulse.signs()
        return ProcessReport(
            id=self.pulse.id,
            kind=self.pulse.kind,
            host=socket.gethostname()[:LONGEST_HOST],
            pid=os.getpid(),
            version=version(),
            schema_revision=head(),
            started_at=self._started_at,
            seen_at=now - timedelta(seconds=signs.silent_seconds),
            written_at=now,
            stopped_at=now if stopped else None,
            progress=signs.progress,
            task=signs.task,
            task_since=signs.task_since,
        )
