"""The counts of this process, read from the counters of `app.telemetry`."""

from collections.abc import Iterator
from typing import Final

from app import telemetry
from app.domain.metric_counts import MILLION, OTHER, Counts, Kind, Shape, Value, add
from app.histograms import Histogram

METRICS: Final = telemetry.METRICS


def counted() -> Counts:
    """Counters and histograms of this process, from its start."""
    return {shape: _series(shape) for shape in METRICS if shape.kind is not Kind.GAUGE}


def gauges() -> Counts:
    """Gauges of this process, in millionths."""
    return {shape: _series(shape) for shape in METRICS if shape.kind is Kind.GAUGE}


def _series(shape: Shape) -> dict[tuple[str, ...], Value]:
    """The series of a metric. Those beyond its bound go together: which came first never changes in a process."""
    metric = METRICS[shape]
    found = dict(_histograms(metric) if isinstance(metric, Histogram) else _numbers(shape))
    if len(found) <= shape.most:
        return found
    names, rest = list(found), (OTHER,) * len(shape.labels)
    parts = [{shape: {labels: found[labels]}} for labels in names[: shape.most]]
    return add([*parts, *({shape: {rest: found[labels]}} for labels in names[shape.most :])])[shape]


def _numbers(shape: Shape) -> Iterator[tuple[tuple[str, ...], Value]]:
    wanted, unit = (f"{shape.name}_total", 1) if shape.kind is Kind.COUNTER else (shape.name, MILLION)
    for family in METRICS[shape].collect():
        for sample in family.samples:
            if sample.name == wanted:
                yield tuple(sample.labels[label] for label in shape.labels), (round(sample.value * unit),)


def _histograms(metric: Histogram) -> Iterator[tuple[tuple[str, ...], Value]]:
    for labels, (total, counts) in metric.observed().items():
        yield labels, (round(total * MILLION), *counts)
