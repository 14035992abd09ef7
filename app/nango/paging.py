"""Pages of a list that changes while it is read, by offsets and newest first (Nango contract: List connections).

Inserted rows push the others on, so a later page repeats some; deleted rows pull them back, so a later page would miss
some. Therefore each window begins within the rows that were read already: as long as its first row is a known one, no
row is hidden between the two.
"""

from dataclasses import dataclass
from typing import Final

OVERLAP: Final = 10  # rows that may be deleted between two pages before one has to be read again
CANDIDATES: Final = 64


@dataclass(frozen=True, slots=True)
class Window:
    """One page in Nango's counting: rows `page * limit` to `(page + 1) * limit`."""

    page: int
    limit: int

    @property
    def start(self) -> int:
        return self.page * self.limit

    @property
    def end(self) -> int:
        return self.start + self.limit


def next_window(covered: int, *, limit: int) -> Window:
    """The page that reaches furthest among those that begin some rows before row number `covered`.

    A page begins at a multiple of its size, so its size is chosen, up to `limit` and hardly ever much less. Where no
    overlapping page reaches far enough, which takes a small limit, the next one follows without an overlap.
    """
    last_start = covered - min(OVERLAP, limit // 4)
    best = plain = Window(covered // limit, limit)
    if 0 < last_start < covered:
        fewest = -(-last_start // limit)
        windows = [Window(page, min(limit, last_start // page)) for page in range(fewest, fewest + CANDIDATES)]
        best = max(windows, key=lambda window: window.end)
    return best if best.end >= covered + limit // 2 else plain
