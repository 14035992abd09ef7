"""Files by which processes of this host show that they live, for probes that must not depend on the database.

A process holds a lock on its file, which the kernel releases however it ends. Each of its loops writes when it last
answered, in place: that needs no free space on the disk. The folder is `run` in the data folder.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATA_DIR: Final = ".waylink"  # the data folder unless WAYLINK_DATA_DIR names one
LIFE_SECONDS: Final = 60.0  # without an answer of a loop; longer than any wait for the database or the broker
_SLOT: Final = 64  # bytes of a line: a part's name and the time of its last answer
_SUFFIX: Final = ".life"


def folder_of(data_dir: Path) -> Path:
    """The folder of the files."""
    return data_dir / "run"


class LifeFile:
    """The file of this process. Without a folder that can be written there is none, and `mark` does nothing."""

    def __init__(self, data_dir: Path, kind: str, parts: Sequence[str]) -> None:
        self._parts = {part: place for place, part in enumerate(parts)}
        self._path = folder_of(data_dir) / f"{kind}-{os.getpid()}-{time.monotonic_ns()}{_SUFFIX}"
        self._file: int | None = None
        self.problem: str | None = None
        unlocked = self._path.with_suffix(".new")  # a name under which `living` does not look for it
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(self._path)
        except OSError as failed:
            self.problem = f"{self._path.parent}: {failed.strerror}"
        for part in self._parts:
            self.mark(part)

    def mark(self, part: str) -> None:
        """Write that this part answers now."""
        if self._file is not None:
            line = f"{part} {time.monotonic():.3f}".ljust(_SLOT - 1) + "\n"
            with contextlib.suppress(OSError):  # a full disk, where the file has no block yet
                os.pwrite(self._file, line.encode(), self._parts[part] * _SLOT)

    def remove(self) -> None:
        """Remove the file at a clean stop."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
            os.close(self._file)
            self._file = None


@dataclass(frozen=True, slots=True)
class Life:
    """A living process of this host: for each part, the seconds since it answered."""

    pid: int
    silent: dict[str, float]


def living(data_dir: Path, kind: str) -> Iterator[Life]:
    """The living processes of a kind. Files of processes that have ended are removed."""
    for path in sorted(folder_of(data_dir).glob(f"{kind}-*{_SUFFIX}")):
        with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:  # its process lives
                now = time.monotonic()
                lines = [line.rsplit(None, 1) for line in file.read(100 * _SLOT).decode("ascii").splitlines()]
                silent = {part: max(0.0, now - float(at)) for part, at in lines}
                yield Life(int(path.name.split("-")[1]), silent)
            else:
                path.unlink(missing_ok=True)


def problem_of(data_dir: Path, kind: str) -> str | None:
    """The reason why a process of the kind is missing or stands still; None where all make progress."""
    alive = [*living(data_dir, kind)]
    if not alive:
        return f"no process of the kind {kind} lives here: none holds a file in {folder_of(data_dir)}"
    for life in alive:
        part, seconds = max(life.silent.items(), key=lambda item: item[1], default=("its file", 0.0))
        if seconds >= LIFE_SECONDS:
            return f"process {life.pid} stands still: its {part} last answered {seconds:.0f} s ago"
    return None
