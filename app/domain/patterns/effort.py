"""How much work matching one document may take, counted in steps so that the answer never depends on the machine.

A step is about one look at one value, a tenth of a microsecond. Steps are counted where a document decides how many
there are: the elements of its arrays, and long texts that are searched. What a pattern alone decides is bounded when
it is compiled (`limits`).
"""

from typing import Final

from app.errors import TooMuchWork

# For one pattern: enough to look at every value of the largest body that is taken by default, not at each a hundred
# times.
MAX_STEPS: Final = 4_000_000


class Effort:
    """What is left of the steps that were allowed."""

    __slots__ = ("left",)

    def __init__(self, steps: float = MAX_STEPS) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        """Take steps before they are done. Raises TooMuchWork where there are not as many left."""
        self.left -= steps
        if self.left < 0:
            raise TooMuchWork
