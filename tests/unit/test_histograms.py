"""Histograms that take many values at once read like those of prometheus_client."""

import random
import threading

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.domain.metric_counts import Kind, Shape
from app.histograms import DEFAULT_BUCKETS, Histogram

TEXT = "Seconds of work."
BOUNDS = (0.005, 0.1, 1, 10)


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels, without the times at which series were made, which Waylink does not serve."""
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("labels", [(), ("team", "destination")])
def test_it_is_exposed_like_one_of_prometheus_client(labels: tuple[str, ...]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("work_seconds", TEXT, labels, buckets=BOUNDS, registry=ours)
    its = prometheus_client.Histogram("work_seconds", TEXT, labels, buckets=BOUNDS, registry=theirs)
    for names in [("crm", "jobs"), ("mail", "hook")] if labels else [()]:
        # On a bound, below the lowest and beyond the highest; quarters, so that sums do not depend on their order.
        values = [0.0, 0.005, 0.1, 10.0, 11.0, *(random.randrange(48) / 4 for _ in range(500))]
        mine.labels(*names).observe_many(values[1:])
        mine.labels(*names).observe(values[0])
        for value in values:
            (its.labels(*names) if names else its).observe(value)
    assert samples(ours) == pytest.approx(samples(theirs))
    text = generate_latest(ours).decode()
    assert f"# HELP work_seconds {TEXT}\n# TYPE work_seconds histogram\n" in text
    kept = [
        line for line in generate_latest(theirs).decode().splitlines() if "_sum" not in line and "_created" not in line
    ]
    assert [line for line in text.splitlines() if "_sum" not in line] == kept


def test_its_shape_names_labels_and_finite_bounds() -> None:
    registry = CollectorRegistry()
    mine = Histogram("work_seconds", TEXT, ["kind"], buckets=BOUNDS, registry=registry)
    assert mine.shape == Shape("work_seconds", Kind.HISTOGRAM, ("kind",), (0.005, 0.1, 1.0, 10.0))
    its = prometheus_client.Histogram("other_seconds", TEXT, registry=registry)
    assert (*DEFAULT_BUCKETS, float("inf")) == its.DEFAULT_BUCKETS


def test_a_metric_without_labels_has_its_series_from_the_start_and_others_none() -> None:
    alone, labelled = CollectorRegistry(), CollectorRegistry()
    Histogram("work_seconds", TEXT, registry=alone)
    Histogram("work_seconds", TEXT, ["kind"], registry=labelled)
    assert samples(alone)["work_seconds_count", ()] == 0
    assert samples(labelled) == {}


def test_series_that_lack_a_label_are_refused() -> None:
    mine = Histogram("work_seconds", TEXT, ["kind"], registry=CollectorRegistry())
    with pytest.raises(ValueError, match="work_seconds has the labels"):
        mine.labels()


def test_no_observation_of_any_thread_is_lost() -> None:
    mine = Histogram("work_seconds", TEXT, ["kind"], buckets=BOUNDS, registry=CollectorRegistry())

    def observe() -> None:
        for _ in range(500):
            mine.labels("fast").observe_many((0.25, 2.0))

    threads = [threading.Thread(target=observe) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mine.observed() == {("fast",): (8 * 500 * 2.25, [0, 0, 8 * 500, 8 * 500, 0])}
