"""Ctrl-C in commands that go on until it comes.

A KeyboardInterrupt that is raised within a callback of a library, or while an object is deleted, is lost there: Python
only prints it. So the signal is remembered, and looked at between two steps.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass(frozen=True, slots=True)
class Interrupts:
    """The signals of Ctrl-C that have come. Both methods raise KeyboardInterrupt where one has."""

    _come: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        if self._come.is_set():
            raise KeyboardInterrupt

    def wait(self, seconds: float) -> None:
        self._come.wait(seconds)
        self.check()

    def note(self, _number: int, _frame: FrameType | None) -> None:
        self._come.set()
        raise KeyboardInterrupt


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Remember Ctrl-C within the block. Only the main thread is told of signals."""
    noted = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = signal.signal(signal.SIGINT, noted.note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
