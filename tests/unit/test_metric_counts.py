"""Counts of metrics: added in any order, they never fall, and kinds do not mix."""

import json
import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import metric_counts
from app.domain.metric_counts import OTHER, Kind, Shape, add, bounded, decoded, encoded, since

ANSWERS = Shape("waylink_webhooks", Kind.COUNTER, ("answer",))
SECONDS = Shape("waylink_seconds", Kind.HISTOGRAM, ("team",), (0.1, 1.0))
OTHER_BUCKETS = Shape("waylink_seconds", Kind.HISTOGRAM, ("team",), (0.5, 1.0))
PLAIN = Shape("waylink_hints", Kind.COUNTER)
SHAPES = [ANSWERS, SECONDS, OTHER_BUCKETS, PLAIN]

NUMBERS = st.integers(1, 2**60)


def series(shape):
    labels = st.tuples(*[st.sampled_from(["a", "b", "c", OTHER])] * len(shape.labels))
    return st.dictionaries(labels, st.tuples(*[NUMBERS] * shape.width), max_size=4)


COUNTS = st.fixed_dictionaries({}, optional={shape: series(shape) for shape in SHAPES})


def without_empty(counts):
    return {shape: dict(series) for shape, series in counts.items() if series}


@given(st.lists(COUNTS, max_size=5), st.randoms(use_true_random=False))
def test_the_sum_is_the_same_in_any_order_and_grouping(many, chance: random.Random) -> None:
    mixed = chance.sample(many, len(many))
    place = chance.randint(0, len(many))
    assert without_empty(add(many)) == without_empty(add(mixed))
    assert without_empty(add(many)) == without_empty(add([add(mixed[:place]), add(mixed[place:])]))


@given(st.lists(COUNTS, min_size=1, max_size=5))
def test_no_count_falls_as_others_are_added(many) -> None:
    for before, after in zip(
        sums := list(accumulate(many, lambda one, other: add([one, other]))), sums[1:], strict=False
    ):
        for shape, known in before.items():
            for labels, value in known.items():
                assert all(old <= new for old, new in zip(value, after[shape][labels], strict=True))


@given(COUNTS, COUNTS)
def test_what_came_since_and_what_was_before_make_the_whole(before, more) -> None:
    whole = add([before, more])
    grown = add([before, since(whole, before)])
    assert without_empty(grown) == without_empty(whole)


@given(st.lists(COUNTS, max_size=3))
def test_kinds_and_buckets_do_not_mix(many) -> None:
    for shape, found in add(many).items():
        assert all(len(value) == shape.width and len(labels) == len(shape.labels) for labels, value in found.items())


@given(COUNTS)
def test_counts_are_stored_and_read_as_they_are(counts) -> None:
    assert decoded(json.loads(json.dumps(encoded(counts)))) == {shape: dict(found) for shape, found in counts.items()}


@pytest.mark.parametrize(
    "stored",
    [
        None,
        [],
        {"families": 7},
        {"families": [7, [], ["x"], ["x", "summary", [], [], []], ["x", "counter", [7], [], []]]},
        {"families": [["x", "histogram", [], ["wide"], []], ["x", "histogram", [], [float("nan")], []]]},
        {"families": [["x", "counter", [], [], {}], ["x", "counter", "ab", [], []]]},
    ],
)
def test_what_another_release_wrote_in_another_form_is_left_out(stored) -> None:
    assert decoded(stored) == {}


def test_rows_of_another_form_are_left_out_and_the_others_kept() -> None:
    rows = [["a", 1], ["b"], ["c", "1"], ["d", 1.5], [7, 1], ["e", True], "ff", ["g", 2]]
    stored = {"families": [["waylink_webhooks", "counter", ["answer"], [], rows]]}
    assert decoded(stored) == {ANSWERS: {("a",): (1,), ("g",): (2,)}}


@given(st.lists(st.dictionaries(st.tuples(st.sampled_from("abcdefgh")), st.tuples(NUMBERS)), min_size=1, max_size=6))
def test_with_a_bound_on_series_none_falls_and_nothing_is_lost(many) -> None:
    """Also where the bound is kept by the stored sum of ended processes, which only has what it kept."""
    metric_counts.MOST_SERIES, kept = 3, metric_counts.MOST_SERIES
    try:
        stored, whole = {}, {}
        before: dict = {}
        for counts in many:
            whole = add([whole, {ANSWERS: counts}])
            shown = bounded(add([stored, {ANSWERS: counts}])).get(ANSWERS, {})
            stored = bounded(add([stored, {ANSWERS: counts}]))
            assert len(shown) <= 4
            assert sum(value for (value,) in shown.values()) == sum(v for (v,) in whole.get(ANSWERS, {}).values())
            for labels, (value,) in before.items():
                assert labels not in shown or shown[labels][0] >= value
                assert labels in shown or shown[OTHER,][0] >= value
            before = shown
    finally:
        metric_counts.MOST_SERIES = kept
