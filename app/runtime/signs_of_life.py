"""A process's signs of life, given while it runs: its file on this host, its row in the database, notifications."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.runtime.life_files import LifeFile
from app.services.liveness.reporter import Reporter
from app.services.notifying.background import NotifyingThread
from app.telemetry import get_logger

log = get_logger(__name__)


class SignsOfLife:
    """From `start` until `stop`, which is a clean stop of the process and takes a few seconds at most.

    notifying: threads that run as long.
    """

    def __init__(self, reporter: Reporter, data_dir: Path, notifying: Sequence[NotifyingThread] = ()) -> None:
        self._reporter, self._data_dir, self._notifying = reporter, data_dir, notifying
        self._file: LifeFile | None = None

    def start(self) -> None:
        pulse = self._reporter.pulse
        self._file = LifeFile(self._data_dir, pulse.kind, pulse.all_parts)
        if self._file.problem is not None:
            log.warning("no_life_file", problem=self._file.problem, then="`waylink healthz` finds no process")
        pulse.mark = self._file.mark
        self._reporter.start()
        for thread in self._notifying:
            thread.start()

    def stop(self) -> None:
        for thread in self._notifying:
            thread.stop()
        self._reporter.stop()
        if self._file is not None:
            self._file.remove()


@contextmanager
def reporting(reporter: Reporter, data_dir: Path, notifying: Sequence[NotifyingThread] = ()) -> Iterator[None]:
    """Give signs of life for as long as the block lasts."""
    signs = SignsOfLife(reporter, data_dir, notifying)
    signs.start()
    try:
        yield
    finally:
        signs.stop()
