"""Which answers were written whole to their connections, as far as this process can tell (promise 4).

Whole: the transport took all bytes of it and its buffer was empty while the connection was open. Whether the sender
received them is not known here. Nearly all answers are whole, so only the lost ones are noted. A report gives these,
and an id before which the end of every answer is known. A process that is killed has not reported its last
deliveries; workers count their answers as lost.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Final, Protocol
from uuid import UUID

from app.ids import new_id
from app.telemetry import ANSWERS_LOST

MAX_REPORTS: Final = 5  # an answer that its client has not taken after as many reports counts as lost
MAX_LOST: Final = (
    10_000  # lost answers that are not recorded yet; beyond that the oldest are dropped, and pass for whole
)

Written = Callable[[], bool | None]  # whether an answer was written whole; None: not known yet


class Line(Protocol):
    """A client's connection."""

    @property
    def is_open(self) -> bool: ...

    def written(self) -> bool | None:
        """Whether all that was answered on it was written whole; None: not known yet."""


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """The answers to what `process` took before the id `settled_before` have ended: whole, except for the lost ones."""

    process: UUID
    settled_before: UUID
    lost: tuple[UUID, ...]


class AnswerLog:
    """The ends of one process's answers. For the event loop, except for `recorded`."""

    def __init__(self) -> None:
        self.process = new_id()
        self._watched: dict[UUID, tuple[Written, int]] = {}  # by delivery, with the number of reports since
        self._lost: dict[UUID, None] = {}
        self._has_news = False

    def answered(self) -> None:
        """Some deliveries were answered whole, or are watched."""
        self._has_news = True

    def watch(self, delivery: UUID, written: Written) -> None:
        """This delivery's answer is on its way."""
        self._watched[delivery] = written, 0

    def lost(self, delivery: UUID) -> None:
        """This delivery's answer was not written whole, or was not 202."""
        if delivery not in self._lost:
            ANSWERS_LOST.inc()
            if len(self._lost) >= MAX_LOST:
                self._lost.pop(next(iter(self._lost)), None)
            self._lost[delivery] = None
        self._has_news = True

    def report(self, unanswered: Iterable[UUID]) -> AnswerReport | None:
        """A report; None if nothing has happened since the last one. unanswered: deliveries that are to be stored."""
        for delivery, (written, reports) in list(self._watched.items()):
            whole = written()
            if whole is None and reports < MAX_REPORTS:
                self._watched[delivery] = written, reports + 1
                continue
            del self._watched[delivery]
            self._has_news = True
            if not whole:
                self.lost(delivery)
        if not self._has_news:
            return None
        self._has_news = False
        # The ids of one process grow, so the next one is beyond all deliveries that were answered.
        before = min(chain(unanswered, self._watched), default=None) or new_id()
        return AnswerReport(self.process, before, tuple(self._lost))

    def recorded(self, report: AnswerReport) -> None:
        """The database has this report. May be called from any thread."""
        for one in report.lost:
            self._lost.pop(one, None)


class Sending:
    """An answer that is sent as ASGI messages, which do not tell whether they were written."""

    __slots__ = ("_line", "_sent", "_whole")

    def __init__(self, line: Line | None) -> None:
        self._line, self._sent, self._whole = line, False, None if line else False

    def __enter__(self) -> "Sending":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _raised: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not self._sent:
            self._whole = False

    def begin(self) -> None:
        """It is sent next. On a connection that has ended, sending does nothing."""
        if self._line is None or not self._line.is_open:
            self._whole = False

    def sent(self) -> None:
        self._sent = True
        self.written()

    def written(self) -> bool | None:
        """Whether it was written whole; None: not known yet."""
        if self._whole is None and self._sent and self._line is not None:
            self._whole = self._line.written()
        return self._whole
