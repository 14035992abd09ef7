"""The charts of the overview, from the figures over time."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.domain.figures import FigureName, Step, Summary
from app.errors import InvalidInput
from app.services.metrics import figure_points
from app.web.console.charts import Chart, Look, Series, bars, lines
from app.web.console.rendering import link, span

# The spans that a viewer may choose, with the step of one bar or point.
SPANS: Final[Mapping[str, tuple[timedelta, Step]]] = {
    "1h": (timedelta(hours=1), Step.MINUTE),
    "24h": (timedelta(hours=24), Step.HOUR),
    "7d": (timedelta(days=7), Step.HOUR),
    "30d": (timedelta(days=30), Step.DAY),
}
DEFAULT: Final = "24h"
_STEPS: Final = {Step.MINUTE: timedelta(minutes=1), Step.HOUR: timedelta(hours=1), Step.DAY: timedelta(days=1)}
_STORED: Final = frozenset({"stored", "duplicate"})
_RENEWED: Final = frozenset({"renewed", "first_seen", "unchanged", "no_expiry"})
_WAITED: Final = frozenset({"rate_limited", "provider_down", "paused", "nango_down", "waited", "superseded"})
Merged = Mapping[datetime, Mapping[str, Summary]]


@dataclass(frozen=True, slots=True)
class FigureChart:
    """A chart with what stands beside it. now: the latest value, or the sum. scale: the upper end. rows: the values of
    spans that have some. links: to the rows that are counted. problem: why there is no chart.
    """

    id: str
    title: str
    unit: str
    chart: Chart | None
    series: Sequence[Series]
    now: str
    scale: str
    since: str
    until: str
    rows: Sequence[tuple[str, Sequence[str]]]
    links: Sequence[tuple[str, str]]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """The declaration of a chart. look: of a label, for a stack; None: a line of its own for each label."""

    id: str
    title: str
    noun: str
    name: FigureName
    label: str | None
    names: Mapping[str, tuple[str, Look]]  # of the series, by their key
    key: Callable[[str], str]
    links: tuple[tuple[str, str], ...]
    in_seconds: bool = False
    stacked: bool = False


_ANSWERS: Final = _Kind(
    "webhooks", "Webhooks", "webhooks", FigureName.WEBHOOKS, "answer",
    {"well": ("stored", Look.WELL), "ill": ("not stored", Look.ILL)},
    lambda answer: "well" if answer in _STORED else "ill",
    (("Events", "/console/events?origin=webhook&since={}"), ("Rejections", "/console/rejections")), stacked=True,
)  # fmt: skip
_BACKLOG: Final = _Kind(
    "backlog", "Backlog", "rows that wait, the latest", FigureName.BACKLOG, "queue",
    {"events": ("events", Look.WELL), "jobs": ("jobs", Look.OTHER)}, lambda queue: queue,
    (("Waiting events", "/console/events?state=received"), ("Available jobs", "/console/jobs?state=available")),
)  # fmt: skip
_OLDEST: Final = _Kind(
    "oldest", "Age of the oldest that is due", "the latest", FigureName.OLDEST_DUE_SECONDS, "queue",
    {"events": ("events", Look.WELL), "jobs": ("jobs", Look.OTHER)}, lambda queue: queue,
    (("Queues and processes", "/console/queues"),), in_seconds=True,
)  # fmt: skip
_TO_JOB: Final = _Kind(
    "to-job", "From webhook to job", "for 99 %, the latest", FigureName.WEBHOOK_TO_JOB_SECONDS, None,
    {"p50": ("half of them within", Look.WELL), "p99": ("99 % within", Look.OTHER)}, lambda key: key,
    (("Completed jobs", "/console/jobs?state=completed&since={}"),), in_seconds=True,
)  # fmt: skip
_DISCARDED: Final = _Kind(
    "discarded", "Dead letters", "jobs given up", FigureName.JOBS_DISCARDED, "fault",
    {"team": ("the team's fault", Look.ILL), "ours": ("Waylink's fault", Look.OTHER)},
    lambda fault: "ours" if fault == "ours" else "team",
    (("Dead letters", "/console/jobs?state=discarded&since={}"),), stacked=True,
)  # fmt: skip
_FAILED: Final = _Kind(
    "events", "Events", "events", FigureName.EVENTS, "state",
    {"well": ("processed", Look.WELL), "ill": ("failed", Look.ILL)},
    lambda state: "ill" if state == "failed" else "well",
    (("Failed events", "/console/events?state=failed&since={}"),), stacked=True,
)  # fmt: skip
_REFRESHES: Final = _Kind(
    "refreshes", "Refreshes", "renewals", FigureName.REFRESHES, "outcome",
    {"well": ("done", Look.WELL), "ill": ("failed", Look.ILL), "other": ("put off", Look.OTHER)},
    lambda outcome: "well" if outcome in _RENEWED else "other" if outcome in _WAITED else "ill",
    (("Refreshes", "/console/refreshes"),), stacked=True,
)  # fmt: skip
KINDS: Final = (_ANSWERS, _BACKLOG, _OLDEST, _TO_JOB, _FAILED, _DISCARDED, _REFRESHES)


def read(session: Session, chosen: str, *, now: datetime, pages: Collection[str]) -> list[FigureChart]:
    """All charts of a span. pages: the paths that there are; links to others are left out."""
    length, step = SPANS[chosen]
    spans = [step.start(now - length)]
    while spans[-1] + _STEPS[step] <= now:
        spans.append(spans[-1] + _STEPS[step])
    return [_read(session, kind, chosen, spans, pages) for kind in KINDS]


def _read(session: Session, kind: _Kind, chosen: str, spans: Sequence[datetime], pages: Collection[str]) -> FigureChart:
    found: Merged = {}
    problem, step = None, SPANS[chosen][1]
    try:
        found = figure_points.merged(
            session, kind.name, step, since=spans[0], until=spans[-1] + _STEPS[step], by=kind.label
        )
    except InvalidInput as too_many:
        problem = str(too_many)
    series = [Series(name, look, _values(kind, key, found, spans)) for key, (name, look) in kind.names.items()]
    unit = f"{kind.noun} in {chosen}" if kind.stacked else kind.noun
    links = [(label, path.format(chosen)) for label, path in kind.links if path.partition("?")[0] in pages]
    chart = _drawn(kind, f"{kind.noun} per {step}" if kind.stacked else unit, series) if found else None
    scale = _text(kind, chart.highest if chart else None) + (f" per {step}" if kind.stacked else "")
    rows = [
        (_moment(at), [_text(kind, each.values[number]) for each in series])
        for number, at in enumerate(spans)
        if any(each.values[number] for each in series)
    ]
    return FigureChart(
        kind.id, kind.title, unit, chart, series, _now(kind, series), scale,
        _moment(spans[0]), _moment(spans[-1]), rows, links, problem,
    )  # fmt: skip


def _values(kind: _Kind, key: str, found: Merged, spans: Sequence[datetime]) -> list[float | None]:
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


def _drawn(kind: _Kind, unit: str, series: Sequence[Series]) -> Chart:
    told = "; ".join(f"{each.name}: {_now(kind, [each])}" for each in series)
    draw = bars if kind.stacked else lines
    return draw(f"{kind.title}, {unit}", f"{told}. The values stand in the table below.", series)


def _now(kind: _Kind, series: Sequence[Series]) -> str:
    """The sum of a count; otherwise the latest value."""
    if kind.stacked:
        return f"{sum(value or 0 for each in series for value in each.values):,.0f}"
    known = [value for each in series for value in each.values[-2:] if value is not None]
    return _text(kind, max(known, default=None))


def _text(kind: _Kind, value: float | None) -> str:
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
