"""Charts are text: their shapes, scales and what a screen reader gets."""

import re
from xml.etree import ElementTree

import pytest

from app.web.console.charts import Look, Series, bars, lines, rounded_up


def shapes(svg: str, tag: str) -> list[dict[str, str]]:
    return [each.attrib for each in ElementTree.fromstring(svg).iter(tag)]


def test_bars_stand_upon_each_other_to_the_scale():
    series = [Series("stored", Look.WELL, [4, 0, 10]), Series("refused", Look.ILL, [0, None, 10])]
    chart = bars("Webhooks", "per hour", series)
    assert chart.highest == 20
    found = [(each["class"], float(each["y"]), float(each["height"])) for each in shapes(chart.svg, "rect")]
    assert found == [("well", 160, 40), ("well", 100, 100), ("ill", 0, 100)]


def test_a_line_is_interrupted_where_nothing_is_known():
    chart = lines("Backlog", "", [Series("events", Look.WELL, [1, 2, None, 2])])
    [path] = [each["d"] for each in shapes(chart.svg, "path") if each["class"] == "well"]
    assert [move[0] for move in path.split() if move[0].isalpha()] == ["M", "L", "M"]
    assert not [
        each for each in shapes(lines("", "", [Series("x", Look.WELL, [None])]).svg, "path") if each["class"] == "well"
    ]


def test_a_chart_names_and_describes_itself_and_escapes_what_it_is_given():
    svg = bars("a <b>", 'half & "more"', [Series("x", Look.WELL, [1])]).svg
    tree = ElementTree.fromstring(svg)
    assert tree.attrib["role"] == "img"
    assert tree.findtext("title") == "a <b>"
    assert tree.findtext("desc") == 'half & "more"'
    assert not re.search(r"style=|<script|on\w+=", svg), "the policy allows none of it"


def test_a_chart_of_nothing_has_a_scale():
    assert bars("", "", []).highest == 1
    assert lines("", "", [Series("x", Look.WELL, [0, 0])]).highest == 1


@pytest.mark.parametrize(
    ("value", "highest"), [(0, 1), (1, 1), (1.1, 2), (0.03, 0.05), (5, 5), (6, 10), (10, 10), (99, 100), (101, 200)]
)
def test_a_scale_ends_at_a_round_number(value: float, highest: float):
    assert rounded_up(value) == pytest.approx(highest)
