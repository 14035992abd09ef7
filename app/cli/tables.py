"""The layout of tables: ids and names are whole or left out, texts are cut to fit into the terminal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.cells import cell_len, set_cell_size

AGE: Final = "age:"  # before a member: the time since then
GAP: Final = "  "
# Texts to read, with the cells that they keep; everything else may be an argument of the next command.
_CUT: Final = {
    **dict.fromkeys(("detail", "last_detail", "last_error", "pattern", "problem", "reason", "tags", "url", "why"), 12),
    "type": 20,
}
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:\+00:00|Z)")
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Layout:
    """The shown columns with their widths, and the names of those that are left out."""

    columns: tuple[int, ...]  # places among the given columns
    widths: tuple[int, ...]
    hidden: tuple[str, ...] = ()

    def line(self, cells: Sequence[str]) -> str:
        """One row. A cell that is too long is cut, and ends with `…`."""
        shown = [_fitted(cells[place], width) for place, width in zip(self.columns, self.widths, strict=True)]
        return GAP.join(shown).rstrip()


def layout(names: Sequence[str], rows: Cells, *, width: int | None) -> Layout:
    """Lay out columns, given in the order of their importance, within `width` cells; None: all of them, whole.

    First texts are cut, then the last columns are left out.
    """
    natural = [max([cell_len(name), *(cell_len(row[place]) for row in rows)]) for place, name in enumerate(names)]
    if width is None:
        return Layout(tuple(range(len(names))), tuple(natural))
    for count in range(len(names), 0, -1):
        widths = _shrunk(names[:count], natural[:count], width)
        if widths is not None:
            return Layout(tuple(range(count)), tuple(widths), tuple(names[count:]))
    return Layout((0,), (natural[0],), tuple(names[1:]))


def short_time(text: str) -> str:
    """A time in UTC to the second; another text as it is."""
    found = _TIME.fullmatch(text)
    return f"{found[1]} {found[2]}Z" if found else text


def age(value: Any, *, now: datetime) -> str:
    """The time since `value` in its largest unit, such as `3m`. Empty for what is no time."""
    try:
        since = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        since = None
    if since is None:
        return ""
    seconds = max(0, int((now - since.replace(tzinfo=since.tzinfo or UTC)).total_seconds()))
    size, unit = next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1])
    return f"{seconds // size}{unit}"


def members(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that rows have, in their order."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _shrunk(names: Sequence[str], natural: Sequence[int], width: int) -> list[int] | None:
    """Widths within `width`, by cutting the longest texts; None where that is not enough."""
    widths = list(natural)
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while excess > 0:
        spare = [(widths[place] - _CUT[name], place) for place, name in enumerate(names) if name in _CUT]
        most, place = max(spare, default=(0, 0))
        if most <= 0:
            return None
        cut = min(excess, (most + 1) // 2)  # by halves, so that no text bears all of it
        widths[place] -= cut
        excess -= cut
    return widths


def _fitted(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
