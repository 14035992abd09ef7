"""Figures over time, as they are shown."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import figures as rows
from app.domain.figures import COUNTED, FigureName, Step, Summary, summary, together
from app.domain.metric_counts import Shape
from app.services.metrics.own_counts import METRICS

_SHAPES: Final = {shape.name: shape for shape in METRICS}


def read(session: Session, name: FigureName, step: Step, *, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """The points of a figure, the earliest first. Raises InvalidInput where there are too many."""
    shape, labels = _shape_of(name)
    shown = []
    for point in rows.points(session, name, step, since=since, until=until):
        value = summary(point.value, shape)
        if value is not None and len(point.labels) == len(labels):
            named = dict(zip(labels, point.labels, strict=True))
            facts = {"value": value.value, "p50": value.p50, "p99": value.p99}
            shown.append({"at": point.at.isoformat(), "labels": named, **facts})
    return shown


def merged(
    session: Session,
    name: FigureName,
    step: Step,
    *,
    since: datetime,
    until: datetime,
    by: str | None,
    of: Sequence[str] | None = None,
) -> dict[datetime, dict[str, Summary]]:
    """The figure's values by span and by one of its labels, the others taken together; by None all are, under "".

    of: the first labels of those that are read, such as a team and a destination; None: all. Raises InvalidInput where
    there are too many points.
    """
    shape, labels = _shape_of(name)
    values: dict[tuple[datetime, str], Sequence[int]] = {}
    for point in rows.points(session, name, step, since=since, until=until, of=of):
        if len(point.labels) == len(labels):
            key = point.at, "" if by is None else point.labels[labels.index(by)]
            values[key] = together(name, values[key], point.value) if key in values else point.value
    found: dict[datetime, dict[str, Summary]] = defaultdict(dict)
    for (at, label), value in values.items():
        if (whole := summary(value, shape)) is not None:
            found[at][label] = whole
    return dict(found)


def _shape_of(name: FigureName) -> tuple[Shape | None, Sequence[str]]:
    shape = _SHAPES[COUNTED[name]] if name in COUNTED else None
    return shape, shape.labels if shape is not None else ("queue",)
