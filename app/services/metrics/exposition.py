"""The text of `/metrics`: the counts of all processes together, and the gauges of the installation.

It is read in one short transaction.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from app.brokers.celery_broker import Broker
from app.db import process_metrics
from app.db.engine import Database
from app.db.process_metrics import ProcessCounts
from app.domain.budget import Bucket
from app.domain.liveness import STALE_SECONDS
from app.domain.metric_counts import MILLION, Counts, Kind, Series, Shape, add, bounded
from app.services.metrics import own_counts, state
from app.services.metrics.gauges import DATABASE_UP, GAUGES
from app.services.metrics.own_counts import METRICS
from app.services.metrics.state import Readings
from app.services.policy import Policy
from app.telemetry import get_logger

# Of gauges that each process has for itself: one process that does not store is what an operator has to see.
_LOWEST: Final = frozenset({"waylink_storing"})

log = get_logger(__name__)


@dataclass(slots=True)
class Exposition:
    """Renders the metrics. identity: the row of this process, whose own gauges are shown as they are now."""

    database: Database
    broker: Broker
    policy: Policy
    bucket_of: Callable[[str], Bucket | None]
    clock: Callable[[], datetime]
    identity: Callable[[], UUID]

    def render(self) -> bytes:
        """The text. Counts come from the database alone, so that they are the same whichever process answers.

        While it does not answer there are none, which Prometheus takes as a gap and not as a restart.
        """
        try:
            now = self.clock()
            with self.database.read() as session:
                rows = process_metrics.read(session, now=now)
                readings = [*state.of_database(session, self.policy, now=now), *state.of_processes(session, now=now)]
        except SQLAlchemyError:
            return _text(_families({}, _gauges_of([]), state.collected(iter([(DATABASE_UP, (), 0.0)]))))
        readings += [(DATABASE_UP, (), 1.0), *state.of_broker(self.broker, self.bucket_of, self.policy)]
        others = [row for row in rows if row.id != self.identity()]
        counts = bounded(add(row.counts for row in rows))
        return _text(_families(counts, _gauges_of(others), state.collected(iter(readings))))


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _text(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(list(families)))
    return generate_latest(registry)


def _gauges_of(others: Iterable[ProcessCounts]) -> Counts:
    """The gauges of this process and of the others that live."""
    living = [row.gauges for row in others if not row.ended and row.age < STALE_SECONDS]
    merged: dict[Shape, Series] = {}
    for counts in [own_counts.gauges(), *living]:
        for shape, series in counts.items():
            known = merged.get(shape, {})
            if shape.name in _LOWEST:
                merged[shape] = {**known, **{key: min(value, known.get(key, value)) for key, value in series.items()}}
            else:
                merged[shape] = add([{shape: known}, {shape: series}])[shape]
    return bounded(merged)


def _families(counts: Counts, own_gauges: Counts, readings: Readings) -> Iterator[Metric]:
    """Families by name. Counts of a shape that this release does not have are left out."""
    for shape, metric in sorted(METRICS.items()):
        text = next(iter(metric.describe())).documentation
        series = (own_gauges if shape.kind is Kind.GAUGE else counts).get(shape, {})
        yield _family(shape, text, series if series or shape.labels else {(): (0,) * shape.width})
    for gauge in GAUGES:
        family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
        for labels, value in sorted(readings.get(gauge, {}).items()):
            family.add_metric(labels, value)
        yield family


def _family(shape: Shape, text: str, series: Series) -> Metric:
    if shape.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(shape.name, text, labels=shape.labels)
        for labels, (total, *own) in sorted(series.items()):
            histogram.add_metric(labels, list(_cumulated(shape, own)), sum_value=total / MILLION)
        return histogram
    if shape.kind is Kind.GAUGE:
        gauge = GaugeMetricFamily(shape.name, text, labels=shape.labels)
        for labels, (value,) in sorted(series.items()):
            gauge.add_metric(labels, value / MILLION)
        return gauge
    counter = CounterMetricFamily(shape.name, text, labels=shape.labels)
    for labels, (value,) in sorted(series.items()):
        counter.add_metric(labels, value)
    return counter


def _cumulated(shape: Shape, own: Iterable[int]) -> Iterator[tuple[str, int]]:
    below = 0
    for bound, count in zip((*shape.buckets, float("inf")), own, strict=True):
        below += count
        yield (str(bound) if math.isfinite(bound) else "+Inf"), below
