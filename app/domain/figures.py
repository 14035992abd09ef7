"""Figures over time: which there are, and what they come to for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.domain.metric_counts import MILLION, Counts, Kind, Shape, Value


class Step(StrEnum):
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    @property
    def kept(self) -> timedelta:
        """For how long figures of the step are kept."""
        return {Step.MINUTE: timedelta(days=2), Step.HOUR: timedelta(days=30), Step.DAY: timedelta(days=730)}[self]

    def start(self, at: datetime) -> datetime:
        """Beginning of the span (UTC) that a time is in."""
        minute = at.replace(second=0, microsecond=0)
        if self is Step.MINUTE:
            return minute
        return minute.replace(minute=0) if self is Step.HOUR else minute.replace(minute=0, hour=0)


class FigureName(StrEnum):
    WEBHOOKS = "webhooks"
    INGEST_SECONDS = "ingest_seconds"
    EVENTS = "events"
    JOBS = "jobs"
    JOBS_DISCARDED = "jobs_discarded"
    WEBHOOK_TO_JOB_SECONDS = "webhook_to_job_seconds"
    REFRESHES = "refreshes"
    NANGO_CALLS = "nango_calls"
    RECONCILED = "reconciled"
    BACKLOG = "backlog"
    OLDEST_DUE_SECONDS = "oldest_due_seconds"


# The counter or histogram that a figure is the difference of, within its span.
COUNTED: Final[Mapping[FigureName, str]] = {
    FigureName.WEBHOOKS: "waylink_webhooks",
    FigureName.INGEST_SECONDS: "waylink_ingest_seconds",
    FigureName.EVENTS: "waylink_events",
    FigureName.JOBS: "waylink_jobs",
    FigureName.JOBS_DISCARDED: "waylink_jobs_discarded",
    FigureName.WEBHOOK_TO_JOB_SECONDS: "waylink_webhook_to_job_seconds",
    FigureName.REFRESHES: "waylink_refreshes",
    FigureName.NANGO_CALLS: "waylink_nango_calls",
    FigureName.RECONCILED: "waylink_reconciled",
}
# Looked at once a minute; of an hour or day the highest value is kept.
SAMPLED: Final = frozenset({FigureName.BACKLOG, FigureName.OLDEST_DUE_SECONDS})
Figures = Mapping[tuple[FigureName, tuple[str, ...]], Value]


def counted(counts: Counts, shapes: Sequence[Shape]) -> dict[tuple[FigureName, tuple[str, ...]], Value]:
    """The figures of counts. shapes: those of this release; counts of others are left out."""
    of_metric = {metric: name for name, metric in COUNTED.items()}
    return {
        (of_metric[shape.name], labels): value
        for shape in shapes
        if shape.name in of_metric
        for labels, value in counts.get(shape, {}).items()
    }


def together(name: FigureName, first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Two values of a figure, of one span."""
    if len(first) != len(second):  # of other buckets, by another release
        return list(second)
    if name in SAMPLED:
        return [max(one, other) for one, other in zip(first, second, strict=True)]
    return [one + other for one, other in zip(first, second, strict=True)]


@dataclass(frozen=True, slots=True)
class Summary:
    """A value for people. p50, p99: of a histogram, in seconds; None without values, and above its bounds."""

    value: float
    p50: float | None = None
    p99: float | None = None


def summary(value: Sequence[int], shape: Shape | None) -> Summary | None:
    """The value for people; None for one of another release's form. shape: of the metric; None for sampled ones."""
    if shape is None:
        return Summary(value[0] / MILLION) if len(value) == 1 else None
    if len(value) != shape.width:
        return None
    if shape.kind is not Kind.HISTOGRAM:
        return Summary(value[0])
    counts = value[1:]
    return Summary(sum(counts), *(_quantile(shape.buckets, counts, share) for share in (0.5, 0.99)))


def _quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which a share lies, as Prometheus has it: in a bucket values are spread evenly."""
    wanted, below, lower = share * sum(counts), 0, 0.0
    if not wanted:
        return None
    for bound, count in zip(bounds, counts, strict=False):
        if below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return None
