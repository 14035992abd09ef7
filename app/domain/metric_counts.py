"""Counts of metrics as numbers that can be added, taken apart and stored.

Everything is a whole number, so that sums are exact in any order: a rounded one could come out lower after another
process has ended, and Prometheus takes a counter that falls for a restart. Sums of histograms are in millionths.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MILLION: Final = 1_000_000
MOST_SERIES: Final = 1000  # of one counter or gauge; what is beyond is counted under the label value `other`
MOST_HISTOGRAMS: Final = 200  # of one name, each of which has a series for every bucket
OTHER: Final = "other"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """A metric: counts are added where all of it is the same. buckets: upper bounds of a histogram without infinity."""

    name: str  # without `_total`
    kind: Kind
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Numbers of one value: one, or a histogram's sum and its buckets with that of infinity, not cumulated."""
        return 2 + len(self.buckets) if self.kind is Kind.HISTOGRAM else 1

    @property
    def most(self) -> int:
        return MOST_HISTOGRAMS if self.kind is Kind.HISTOGRAM else MOST_SERIES


Value = tuple[int, ...]
Series = Mapping[tuple[str, ...], Value]
Counts = Mapping[Shape, Series]


def add(many: Iterable[Counts]) -> dict[Shape, dict[tuple[str, ...], Value]]:
    """The sum of counts. Those of different shapes stay apart, such as a metric that got a label in another release."""
    summed: dict[Shape, dict[tuple[str, ...], Value]] = defaultdict(dict)
    for counts in many:
        for shape, series in counts.items():
            into = summed[shape]
            for labels, value in series.items():
                known = into.get(labels)
                into[labels] = value if known is None else tuple(map(int.__add__, known, value))
    return dict(summed)


def since(counts: Counts, before: Counts) -> dict[Shape, dict[tuple[str, ...], Value]]:
    """Counts that came after `before`, of the same process; series without any are left out."""
    grown: dict[Shape, dict[tuple[str, ...], Value]] = {}
    for shape, series in counts.items():
        known = before.get(shape, {})
        more = {
            labels: tuple(map(int.__sub__, value, known[labels])) if labels in known else value
            for labels, value in series.items()
        }
        if kept := {labels: value for labels, value in more.items() if any(value)}:
            grown[shape] = kept
    return grown


def bounded(counts: Counts) -> dict[Shape, dict[tuple[str, ...], Value]]:
    """Counts with a bounded number of series of each shape.

    The first in order of their labels stay and the others go together, so that what went there never returns, however
    many are added, and the sum under `other` never falls.
    """
    return {shape: _bounded(shape, series) for shape, series in counts.items()}


def _bounded(shape: Shape, series: Series) -> dict[tuple[str, ...], Value]:
    if len(series) <= shape.most:
        return dict(series)
    rest = (OTHER,) * len(shape.labels)
    names = sorted(labels for labels in series if labels != rest)
    kept = {labels: series[labels] for labels in names[: shape.most]}
    others = [{shape: {rest: series[labels]}} for labels in [*names[shape.most :], *([rest] if rest in series else [])]]
    return kept | add(others).get(shape, {})


def encoded(counts: Counts) -> dict[str, Any]:
    """Counts as JSON has them."""
    return {"families": [_encoded(shape, series) for shape, series in sorted(counts.items())]}


def _encoded(shape: Shape, series: Series) -> list[Any]:
    rows = [[*labels, *value] for labels, value in series.items()]
    return [shape.name, shape.kind.value, list(shape.labels), list(shape.buckets), rows]


def decoded(stored: object) -> dict[Shape, dict[tuple[str, ...], Value]]:
    """The counts of `encoded`. What is not of its form, as from a later release, is left out."""
    families = stored.get("families") if isinstance(stored, dict) else None
    counts: dict[Shape, dict[tuple[str, ...], Value]] = {}
    for family in families if isinstance(families, list) else []:
        shape = _shape(family)
        if shape is not None:
            counts[shape] = dict(_rows(shape, family[4]))
    return counts


def _shape(family: object) -> Shape | None:
    match family:
        case [str(name), str(kind), list(labels), list(buckets), list()] if kind in set(Kind):
            bounds = [float(bound) for bound in buckets if _is_number(bound)]
            if all(isinstance(label, str) for label in labels) and len(bounds) == len(buckets):
                return Shape(name, Kind(kind), tuple(labels), tuple(bounds))
    return None


def _rows(shape: Shape, rows: list[object]) -> Iterator[tuple[tuple[str, ...], Value]]:
    labels = len(shape.labels)
    for row in rows:
        if not isinstance(row, list) or len(row) != labels + shape.width:
            continue
        names, value = tuple(row[:labels]), tuple(row[labels:])
        if all(isinstance(name, str) for name in names) and all(type(number) is int for number in value):
            yield names, value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
