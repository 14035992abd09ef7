"""Signs of life of one process, in memory. Each is given by the loop that it speaks for, and by no clock beside it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.clock import utc_now
from app.domain.liveness import ProcessKind, Work
from app.ids import new_id

EVERY_SECONDS: Final = 1.0  # between two answers of a loop
LONGEST_NAME: Final = 100  # characters of a task's name
POOL: Final = "pool"


@dataclass(frozen=True, slots=True)
class Signs:
    """The signs of a process at one moment. silent_seconds: since the loop that is silent for longest has answered."""

    silent_seconds: float
    progress: dict[str, datetime]
    task: str | None
    task_since: datetime | None


def _keep_to_itself(_part: str) -> None: ...


@dataclass(slots=True)
class Pulse:
    """May be used from any thread; each call takes a microsecond.

    parts: the loops that have to answer. pool_size: threads of the pool that works on tasks; one whose threads are all
    at work answers when a task begins or ends. mark: called with a part's name when it answered, at most once per
    EVERY_SECONDS, for a file that is read where the database is away.
    """

    kind: ProcessKind
    parts: tuple[str, ...]
    pool_size: int | None = None
    id: UUID = field(default_factory=new_id)
    clock: Callable[[], datetime] = utc_now
    mark: Callable[[str], None] = _keep_to_itself
    _answered: dict[str, float] = field(init=False)  # by part, on the monotonic clock
    _marked: dict[str, float] = field(default_factory=dict, init=False)
    _progress: dict[str, datetime] = field(default_factory=dict, init=False)
    _tasks: dict[int, tuple[str, float]] = field(default_factory=dict, init=False)  # in the order of their beginning
    _tasks_begun: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._answered = dict.fromkeys(self.all_parts, time.monotonic())

    @property
    def all_parts(self) -> tuple[str, ...]:
        """The parts, and the pool if there is one."""
        return (*self.parts, POOL) if self.pool_size else self.parts

    def answered(self, part: str) -> None:
        """This loop runs."""
        now = time.monotonic()
        self._answered[part] = now
        if now - self._marked.get(part, float("-inf")) >= EVERY_SECONDS:
            self._marked[part] = now
            self.mark(part)

    def answered_beside_pool(self, part: str) -> None:
        """This loop runs, and hands tasks to a pool, which answers for itself as long as a thread of it is free."""
        self.answered(part)
        if self.pool_size and len(self._tasks) < self.pool_size:
            self.answered(POOL)

    def did(self, work: Work) -> None:
        """Some work of this kind was done now."""
        self._progress[work] = self.clock()

    def began(self, task: str) -> int:
        """A task begins. Returns the number by which it ends."""
        with self._lock:
            self._tasks_begun += 1
            number = self._tasks_begun
            self._tasks[number] = task[:LONGEST_NAME], time.monotonic()
        if self.pool_size:
            self.answered(POOL)
        return number

    def ended(self, number: int) -> None:
        with self._lock:
            self._tasks.pop(number, None)
        if self.pool_size:
            self.answered(POOL)

    def signs(self) -> Signs:
        """The signs at this moment."""
        now, wall = time.monotonic(), self.clock()
        with self._lock:
            oldest = next(iter(self._tasks.values()), None)
        return Signs(
            silent_seconds=now - min(self._answered.values(), default=now),
            progress=self._progress.copy(),
            task=oldest[0] if oldest else None,
            task_since=wall - timedelta(seconds=now - oldest[1]) if oldest else None,
        )
