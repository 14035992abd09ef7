"""Charts as SVG made on the server: pure functions from figures to text.

A chart scales to the width of its place, so that it holds no text but its title and description; scales, legend and a
table with the values stand beside it in HTML. Series differ by hatching and dashes, too, and not by colour alone. Parts
of a chart may be links, which lie over what is drawn.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from markupsafe import Markup

WIDTH: Final = 1000.0
HEIGHT: Final = 200.0
GAP: Final = 0.15  # of a bar's place
Values = Sequence[float | None]  # one for each span; None: not known


class Look(StrEnum):
    """The look of a series: a class of the style sheet."""

    WELL = "well"  # plain
    ILL = "ill"  # hatched
    OTHER = "other"  # outlined


@dataclass(frozen=True, slots=True)
class Series:
    """A name for the legend, a look, and the values."""

    name: str
    look: Look
    values: Values


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with the upper end of its scale."""

    svg: Markup
    highest: float


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a chart that is a link. begin, end: its place, from 0 to 1. label: where the link leads."""

    begin: float
    end: float
    path: str
    label: str


@dataclass(frozen=True, slots=True)
class Overlay:
    """Parts that are links, and the places of marks, from 0 to 1; all of it lies over the series."""

    parts: Sequence[Part] = ()
    marks: Sequence[float] = ()


PLAIN: Final = Overlay()


def bars(title: str, description: str, series: Sequence[Series], overlay: Overlay = PLAIN) -> Chart:
    """A bar for each span, in which the series stand upon each other."""
    spans = max((len(each.values) for each in series), default=0)
    totals = [sum(each.values[at] or 0 for each in series) for at in range(spans)]
    highest = rounded_up(max(totals, default=0))
    parts: list[Markup] = []
    for at in range(spans):
        base = HEIGHT
        for each in series:
            height = (each.values[at] or 0) / highest * HEIGHT
            if height > 0:
                base -= height
                parts.append(_rect(at / spans * WIDTH, base, (1 - GAP) / spans * WIDTH, height, each.look))
    return Chart(_svg(title, description, parts, overlay), highest)


def lines(title: str, description: str, series: Sequence[Series], overlay: Overlay = PLAIN) -> Chart:
    """A line for each series, interrupted where a value is not known."""
    highest = rounded_up(max((value for each in series for value in each.values if value is not None), default=0))
    parts = [_line(each, highest) for each in series if any(value is not None for value in each.values)]
    return Chart(_svg(title, description, parts, overlay), highest)


def rounded_up(value: float) -> float:
    """The next of 1, 2 and 5 times a power of ten: the upper end of a scale. Of nothing, 1."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


def _line(series: Series, highest: float) -> Markup:
    path = " ".join(_moves(series.values, highest))
    return Markup('<path class="{}" d="{}"/>').format(series.look, path)


def _moves(values: Values, highest: float) -> Iterator[str]:
    """A point of its own is drawn as a dot by the round ends of a line without length."""
    drawn = False
    for at, value in enumerate(values):
        if value is None:
            drawn = False
            continue
        x, y = (at + 0.5) / len(values) * WIDTH, HEIGHT - value / highest * HEIGHT
        yield f"{'L' if drawn else 'M'}{x:.1f} {y:.1f}" + ("" if drawn else "h0")
        drawn = True


def _rect(x: float, y: float, width: float, height: float, look: Look) -> Markup:
    rect = '<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>'
    return Markup(rect).format(look, *(f"{number:.1f}" for number in (x, y, width, height)))  # noqa: S704 - a constant


def _part(part: Part) -> Markup:
    x, width = part.begin * WIDTH, (part.end - part.begin) * WIDTH
    link = '<a href="{}" aria-label="{}"><rect class="part" x="{:.1f}" y="0" width="{:.1f}" height="200"/></a>'
    return Markup(link).format(part.path, part.label, x, width)  # noqa: S704 - a constant


def _svg(title: str, description: str, parts: Sequence[Markup], overlay: Overlay) -> Markup:
    """A picture; with links a group of them, since a picture has no parts for those who hear it."""
    frame = Markup(
        '<svg class="chart" viewBox="0 0 1000 200" preserveAspectRatio="none" role="{}">'
        "<title>{}</title><desc>{}</desc>"
        '<path class="grid" d="M0 0.5H1000M0 100H1000M0 199.5H1000"/>{}</svg>'
    )
    marks = [Markup('<path class="edge" d="M{:.1f} 0V200"/>').format(place * WIDTH) for place in overlay.marks]
    drawn = Markup("").join([*parts, *marks, *map(_part, overlay.parts)])
    return frame.format("group" if overlay.parts else "img", title, description, drawn)
