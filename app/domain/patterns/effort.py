"""Bound on the work of matching one document, counted in steps so that the result never depends on the machine.

A step is about one test of one value, a tenth of a microsecond. Steps are counted where a document determines their
number: the elements of its arrays, and long texts that are searched. Work that depends on the pattern alone is bounded
when it is compiled (`limits`).
"""

from typing import Final

from app.errors import TooMuchWork

# For one pattern: enough to test every value of the largest body that is accepted by default once, not a hundred times.
MAX_STEPS: Final = 4_000_000


class Effort:
    """The number of steps left."""

    __slots__ = ("left",)

    def __init__(self, steps: float = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take steps before they are done. Raises TooMuchWork where there are not as many left."""
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork
