"""Statements on figures over time. Spans are recorded by one process at a time: the row of totals is locked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final

import msgspec
from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Figure, FigureTotals
from app.domain import metric_counts
from app.domain.figures import FigureName, Figures, Step, together
from app.domain.metric_counts import Counts
from app.errors import InvalidInput

POINTS: Final = 10_000  # of one answer

_figures: Final = bulk.table(Figure)


@dataclass(frozen=True, slots=True)
class Point:
    """A stored figure."""

    at: datetime
    labels: tuple[str, ...]
    value: Sequence[int]


def totals(session: Session, *, now: datetime) -> tuple[datetime, Counts] | None:
    """The totals that figures are recorded up to, locked until the transaction ends; None where there were none."""
    empty = metric_counts.encoded({})
    first = bulk.insert_for(session, FigureTotals).values(id=1, at=now, counts=empty).on_conflict_do_nothing()
    is_new = session.execute(first.returning(FigureTotals.id)).first() is not None
    row = session.execute(select(FigureTotals.at, FigureTotals.counts).with_for_update()).one()
    return None if is_new else (row.at, metric_counts.decoded(row.counts))


def save_totals(session: Session, counts: Counts, *, at: datetime) -> None:
    """Replace the totals."""
    values = {"at": at, "counts": metric_counts.encoded(counts)}
    session.execute(update(FigureTotals).values(values).execution_options(synchronize_session=False))


def put(session: Session, figures: Figures, *, at: datetime) -> None:
    """Add the figures of a minute to those of its minute, hour and day."""
    for step in Step:
        start = step.start(at)
        known = {
            (row.name, row.labels): row.value
            for row in session.execute(
                select(Figure.name, Figure.labels, Figure.value).where(Figure.step == step, Figure.at == start)
            )
        }
        rows = []
        for (name, labels), value in figures.items():
            text = msgspec.json.encode(labels).decode()
            before = known.get((name, text))
            merged = list(value) if before is None else together(name, before, value)
            rows.append({"step": step, "at": start, "name": name, "labels": text, "value": merged})
        if rows:
            statement = bulk.insert_for(session, Figure)
            keys = ["step", "at", "name", "labels"]
            statement = statement.on_conflict_do_update(index_elements=keys, set_={"value": statement.excluded.value})
            session.execute(statement, rows)


def points(
    session: Session,
    name: FigureName,
    step: Step,
    *,
    since: datetime,
    until: datetime,
    of: Sequence[str] | None = None,
) -> list[Point]:
    """Figures of a name within a time, the earliest first. of: their first labels; None: all. Raises InvalidInput where
    they are more than POINTS.
    """
    at, labels = _figures.c.at, _figures.c.labels
    within = [_figures.c.step == step, at >= step.start(since), at < until, _figures.c.name == name]
    if of is not None:
        within.append(labels.startswith(msgspec.json.encode(of).decode().removesuffix("]"), autoescape=True))
    wanted = select(at, labels, _figures.c.value).where(*within).order_by(at, labels).limit(POINTS + 1)
    found = session.execute(wanted).all()
    if len(found) > POINTS:
        raise InvalidInput(f"these are more than {POINTS} points: ask for less time, or a longer step")
    read = cache(_labels)  # there are few, each in many rows
    return [Point(row[0], read(row[1]), row[2]) for row in found]


def _labels(text: str) -> tuple[str, ...]:
    return tuple(msgspec.json.decode(text))


def prune(session: Session, step: Step, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` figures of a step from before then. Returns their number."""
    key = tuple_(Figure.at, Figure.name, Figure.labels)
    old = select(Figure.at, Figure.name, Figure.labels).where(Figure.step == step, Figure.at < before).limit(limit)
    rows = [tuple(row) for row in session.execute(old)]
    if rows:
        statement = delete(Figure).where(Figure.step == step, key.in_(rows))
        session.execute(statement.execution_options(synchronize_session=False))
    return len(rows)
