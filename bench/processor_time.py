"""Processor time by the kernel's own accounts (Linux), sampled beside the work, of any span of it afterwards.

Where the work began and ended is often known only when it is over, by what it wrote: hence samples, and a moment
between two of them is interpolated.
"""

import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from bench.processes import Failed, cpu_seconds, repeating

EVERY: Final = 0.05  # seconds

Taken = dict[str, float]  # seconds, by the name that a process was given


@dataclass(slots=True)
class Samples:
    """Processor time since each process began, at moments in unix seconds."""

    moments: list[float] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)

    def add(self, moment: float, taken: Taken) -> None:
        """A process that ends while it is read is missing, and its parent has its time from the next sample on."""
        last = self.taken[-1] if self.taken else {}
        self.moments.append(moment)
        self.taken.append({name: max(seconds, last.get(name, 0.0)) for name, seconds in taken.items()})

    def between(self, began: float, ended: float) -> Taken:
        """Processor time from one moment to another. Raises Failed where they were not sampled."""
        before, after = self._at(began), self._at(ended)
        return {name: after[name] - seconds for name, seconds in before.items()}

    def _at(self, moment: float) -> Taken:
        if not self.moments or not self.moments[0] <= moment <= self.moments[-1]:
            raise Failed("processor time was not sampled at this moment")
        after = bisect_left(self.moments, moment)
        before = max(0, after - 1)
        width = self.moments[after] - self.moments[before]
        share = (moment - self.moments[before]) / width if width else 0.0
        return {
            name: seconds + share * (self.taken[after][name] - seconds) for name, seconds in self.taken[before].items()
        }


@contextmanager
def sampled(*, every: float = EVERY, **pids: int) -> Iterator[Samples]:
    """Processor time of each of these processes and everything below it, until the block ends."""
    samples = Samples()

    def sample() -> None:
        samples.add(time.time(), {name: cpu_seconds([pid]) for name, pid in pids.items()})

    sample()
    with repeating(sample, every=every):
        yield samples
    sample()
