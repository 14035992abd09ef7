"""Figures over time, as they are shown."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy.orm import Session

from app.db import figures as rows
from app.domain.figures import COUNTED, FigureName, Step, summary
from app.errors import InvalidInput
from app.services.metrics.own_counts import METRICS

_SHAPES: Final = {shape.name: shape for shape in METRICS}


def read(session: Session, name: FigureName, step: Step, *, since: datetime, until: datetime) -> list[dict[str, Any]]:
    """The points of a figure, the earliest first. Raises InvalidInput where there are too many."""
    shape = _SHAPES[COUNTED[name]] if name in COUNTED else None
    labels = shape.labels if shape is not None else ("queue",)
    found = rows.points(session, name, step, since=since, until=until)
    if len(found) > rows.POINTS:
        raise InvalidInput(f"these are more than {rows.POINTS} points: ask for less time, or a longer step")
    shown = []
    for point in found:
        value = summary(point.value, shape)
        if value is not None and len(point.labels) == len(labels):
            named = dict(zip(labels, point.labels, strict=True))
            facts = {"value": value.value, "p50": value.p50, "p99": value.p99}
            shown.append({"at": point.at.isoformat(), "labels": named, **facts})
    return shown
