"""Record of the answers that were written completely to their connections, as far as this process can tell (promise 4).

Complete: the transport took all bytes and its buffer was empty while the connection was open. Receipt by the sender is
not known here. Nearly all answers are complete, so only lost ones are recorded. A report has these, and an id before
which the end of every answer is known. A process that is killed has not reported its last deliveries; workers count
their answers as lost.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Final, Protocol
from uuid import UUID

from app.ids import new_id
from app.telemetry import ANSWERS_LOST

MAX_REPORTS: Final = 5  # an answer that its client has not read after as many reports counts as lost
MAX_LOST: Final = 10_000  # lost answers not recorded yet; beyond that the oldest are dropped, and count as complete

Written = Callable[[], bool | None]  # whether an answer was written completely; None: not known yet


class AnswerConnection(Protocol):
    """A client's connection."""

    @property
    def is_open(self) -> bool: ...

    def written(self) -> bool | None:
        """Whether all answers on it were written completely; None: not known yet."""


@dataclass(frozen=True, slots=True)
class AnswerReport:
    """All answers of `process` to deliveries before the id `settled_before` were complete, except the lost ones."""

    process: UUID
    settled_before: UUID
    lost: tuple[UUID, ...]


class AnswerLog:
    """Results of one process's answers. For the event loop, except for `recorded`."""

    def __init__(self) -> None:
        self.process = new_id()
        self._watched: dict[UUID, tuple[Written, int]] = {}  # by delivery, with the number of reports since
        self._lost: dict[UUID, None] = {}
        self._has_changes = False

    def answered(self) -> None:
        """Some deliveries were answered completely, or are watched."""
        self._has_changes = True

    def watch(self, delivery: UUID, written: Written) -> None:
        """Watch this delivery's answer, which is being written."""
        self._watched[delivery] = written, 0

    def lost(self, delivery: UUID) -> None:
        """Record that this delivery's answer was not written completely, or was not 202."""
        if delivery not in self._lost:
            ANSWERS_LOST.inc()
            if len(self._lost) >= MAX_LOST:
                self._lost.pop(next(iter(self._lost)), None)
            self._lost[delivery] = None
        self._has_changes = True

    def report(self, unanswered: Iterable[UUID]) -> AnswerReport | None:
        """A report; None if nothing has changed since the last one. unanswered: deliveries that are still to be
        stored.
        """
        for delivery, (written, reports) in list(self._watched.items()):
            whole = written()
            if whole is None and reports < MAX_REPORTS:
                self._watched[delivery] = written, reports + 1
                continue
            del self._watched[delivery]
            self._has_changes = True
            if not whole:
                self.lost(delivery)
        if not self._has_changes:
            return None
        self._has_changes = False
        # The ids of one process increase, so the next one is beyond all answered deliveries.
        before = min(chain(unanswered, self._watched), default=None) or new_id()
        return AnswerReport(self.process, before, tuple(self._lost))

    def recorded(self, report: AnswerReport) -> None:
        """Forget the lost answers of a report that the database has. May be called from any thread."""
        for delivery in report.lost:
            self._lost.pop(delivery, None)


class Sending:
    """An answer sent as ASGI messages, which do not report whether they were written."""

    __slots__ = ("_connection", "_sent", "_whole")

    def __init__(self, connection: AnswerConnection | None) -> None:
        self._connection, self._sent, self._whole = connection, False, None if connection else False

    def __enter__(self) -> "Sending":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _raised: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if not self._sent:
            self._whole = False

    def begin(self) -> None:
        """Note that the answer is sent next. On a closed connection, sending does nothing."""
        if self._connection is None or not self._connection.is_open:
            self._whole = False

    def sent(self) -> None:
        self._sent = True
        self.written()

    def written(self) -> bool | None:
        """Whether the answer was written completely; None: not known yet."""
        if self._whole is None and self._sent and self._connection is not None:
            self._whole = self._connection.written()
        return self._whole
