"""The counts of this process, read from the counters of `app.telemetry`."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app import telemetry
from app.domain.metric_counts import MILLION, OTHER, Counts, Kind, Shape, Value, add

_KINDS: Final = {Counter: Kind.COUNTER, Gauge: Kind.GAUGE, Histogram: Kind.HISTOGRAM}


def _shape(metric: MetricWrapperBase) -> Shape:
    described = next(iter(metric.describe()))
    buckets = tuple(metric._upper_bounds[:-1]) if isinstance(metric, Histogram) else ()
    return Shape(described.name, _KINDS[type(metric)], tuple(metric._labelnames), buckets)


METRICS: Final = {
    _shape(metric): metric for metric in vars(telemetry).values() if isinstance(metric, MetricWrapperBase)
}


def counted() -> Counts:
    """Counters and histograms of this process, from its start."""
    return {shape: _series(shape) for shape in METRICS if shape.kind is not Kind.GAUGE}


def gauges() -> Counts:
    """Gauges of this process, in millionths."""
    return {shape: _series(shape) for shape in METRICS if shape.kind is Kind.GAUGE}


def _series(shape: Shape) -> dict[tuple[str, ...], Value]:
    """The series of a metric. Those beyond its bound go together: which came first never changes in a process."""
    found = dict(_histograms(shape) if shape.kind is Kind.HISTOGRAM else _numbers(shape))
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


def _histograms(shape: Shape) -> Iterator[tuple[tuple[str, ...], Value]]:
    counts: list[int] = []
    for family in METRICS[shape].collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                counts.append(round(sample.value))  # cumulated, from the lowest bound up
            elif sample.name.endswith("_sum"):
                own = [count - lower for count, lower in zip(counts, [0, *counts], strict=False)]
                yield tuple(sample.labels[label] for label in shape.labels), (round(sample.value * MILLION), *own)
                counts = []
