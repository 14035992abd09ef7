"""Charts of figures over time, with what stands beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.domain.definitions import DestinationKey
from app.domain.figures import Step, Summary
from app.errors import InvalidInput
from app.services.maintenance.upkeep import RECORD_KEPT
from app.services.metrics import figure_points
from app.services.status.installation import Installation
from app.web.console.charts import PLAIN, Chart, Overlay, Series, bars, lines
from app.web.console.figure_kinds import KINDS, OVERVIEW, Kind, RowsLink
from app.web.console.figure_times import TimeRange, of_step
from app.web.console.rendering import link, span
from app.web.console.serving import Visit

PATH: Final = "/console/figures"
# The spans that a viewer may choose, with the step of one bar or point.
SPANS: Final[Mapping[str, tuple[timedelta, Step]]] = {
    "1h": (timedelta(hours=1), Step.MINUTE),
    "24h": (timedelta(hours=24), Step.HOUR),
    "7d": (timedelta(days=7), Step.HOUR),
    "30d": (timedelta(days=30), Step.DAY),
}
DEFAULT: Final = "24h"
Merged = Mapping[datetime, Mapping[str, Summary]]


@dataclass(frozen=True, slots=True)
class ShownLink:
    """A link to the rows of a figure. count: their number; None where the figure is no number of rows, or where some of
    them are not stored any more. column: as of `RowsLink`.
    """

    label: str
    path: str
    count: int | None
    column: str | None


@dataclass(frozen=True, slots=True)
class FigureChart:
    """A chart with what stands beside it. page: its own. now: the latest value, or the sum. scale: the upper end. rows:
    the values of spans that have some, by the beginning. problem: why there is no chart.
    """

    id: str
    title: str
    page: str
    unit: str
    chart: Chart | None
    series: Sequence[Series]
    now: str
    scale: str
    since: str
    until: str
    rows: Sequence[tuple[datetime, Sequence[str]]]
    links: Sequence[ShownLink]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The figures to draw. unit: a name of the time. pages: the paths of lists that there are, with the time from which
    on all of their rows are stored; links to others are left out.
    """

    time: TimeRange
    unit: str
    pages: Mapping[str, datetime]
    destination: DestinationKey | None = None
    overlay: Overlay = PLAIN


def read(session: Session, chosen: str, *, now: datetime, pages: Mapping[str, datetime]) -> list[FigureChart]:
    """The charts of the overview, of a span."""
    length, step = SPANS[chosen]
    wanted = Wanted(of_step(now - length, now, step), f"in {chosen}", pages)
    return [chart_of(session, kind, wanted) for kind in OVERVIEW]


def chart_of(session: Session, kind: Kind, wanted: Wanted) -> FigureChart:
    """The chart of a figure."""
    found: Merged = {}
    problem, time = None, wanted.time
    try:
        found = figure_points.merged(
            session, kind.name, time.step, since=time.since, until=time.until, by=kind.label, of=wanted.destination
        )
    except InvalidInput as too_many:
        problem = str(too_many)
    spans = time.spans
    series = {key: Series(name, look, _values(kind, key, found, spans)) for key, (name, look) in kind.names.items()}
    shown = tuple(series.values())
    unit = f"{kind.noun} {wanted.unit}" if kind.stacked else kind.noun
    drawn_unit = f"{kind.noun} per {time.step}" if kind.stacked else unit
    chart = _drawn(kind, drawn_unit, shown, wanted.overlay) if found else None
    scale = _text(kind, chart.highest if chart else None) + (f" per {time.step}" if kind.stacked else "")
    rows = [
        (at, [_text(kind, each.values[number]) for each in shown])
        for number, at in enumerate(spans)
        if any(each.values[number] for each in shown)
    ]
    links = [_link(kind, each, series, wanted) for each in kind.links if each.path in wanted.pages]
    of = {"destination": f"{wanted.destination[0]}/{wanted.destination[1]}"} if wanted.destination else {}
    return FigureChart(
        kind.id, kind.title, link(f"{PATH}/{kind.id}", **of, **time.query), unit, chart, shown, _now(kind, shown),
        scale, _moment(time.since), _moment(spans[-1]), rows, links, problem,
    )  # fmt: skip


def _link(kind: Kind, to: RowsLink, series: Mapping[str, Series], wanted: Wanted) -> ShownLink:
    """A link to rows, of the time and the destination, with their number."""
    query = dict(to.query)
    if to.between is not None:
        query |= dict(zip(to.between, wanted.time.query.values(), strict=True))
    if wanted.destination is not None:
        query["destination"] = "/".join(wanted.destination)
    count = None
    if to.counts and wanted.time.since >= wanted.pages[to.path]:
        values = [_sum(series[key]) if kind.stacked else _latest([series[key]]) for key in to.counts]
        known = [value for value in values if value is not None]
        count = round(sum(known)) if len(known) == len(values) else None
    return ShownLink(to.label, link(to.path, **query), count, to.column)


def _values(kind: Kind, key: str, found: Merged, spans: Sequence[datetime]) -> list[float | None]:
    """The values of one series. A count that was not recorded is nothing, a sampled value unknown."""
    values: list[float | None] = []
    for at in spans:
        summaries = found.get(at, {})
        if kind.label is None:
            whole = summaries.get("")
            values.append((whole.p50 if key == "p50" else whole.p99) if whole else None)
            continue
        mine = [summary.value for label, summary in summaries.items() if kind.key(label) == key]
        values.append(sum(mine) if mine else 0 if kind.stacked else None)
    return values


def _drawn(kind: Kind, unit: str, series: Sequence[Series], overlay: Overlay) -> Chart:
    told = "; ".join(f"{each.name}: {_now(kind, [each])}" for each in series)
    draw = bars if kind.stacked else lines
    return draw(f"{kind.title}, {unit}", f"{told}. The values stand in the table below.", series, overlay)


def _now(kind: Kind, series: Sequence[Series]) -> str:
    """The sum of a count; otherwise the latest value."""
    return f"{sum(map(_sum, series)):,.0f}" if kind.stacked else _text(kind, _latest(series))


def _sum(series: Series) -> float:
    return sum(value or 0 for value in series.values)


def _latest(series: Sequence[Series]) -> float | None:
    return max((value for each in series for value in each.values[-2:] if value is not None), default=None)


def _text(kind: Kind, value: float | None) -> str:
    if kind.in_seconds or value is None:
        return span(value)
    return f"{value:,.0f}"


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="minutes")


def chosen_span(text: str | None) -> str:
    """A span that may be chosen; the default for any other text."""
    return text if text is not None and text in SPANS else DEFAULT


def links_of(chosen: str) -> list[tuple[str, str, bool]]:
    """The spans with the links that choose them."""
    return [(name, link("/console", span=name), name == chosen) for name in SPANS]


def pages_of(visit: Visit, installation: Installation, *, now: datetime) -> dict[str, datetime]:
    """The lists that the operator may see, with the time from which on all of their rows are stored."""
    keeps = {"/console/refreshes": installation.keep_refreshes, "/console/rejections": RECORD_KEPT}
    paths = {to.path for kind in KINDS.values() for to in kind.links if visit.may(f"GET {to.path}")}
    return {path: _kept_since(keeps.get(path, installation.keep_events), now) for path in paths}


def _kept_since(keep: timedelta | None, now: datetime) -> datetime:
    return now - keep if keep else datetime.min.replace(tzinfo=UTC)
