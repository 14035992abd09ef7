"""Dead letters and failed events that no operator has acknowledged, read from indexes and counted up to a bound."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Select, Table, and_, func, select, text, true, tuple_
from sqlalchemy.orm import Session

from app.db import acknowledgements, bulk
from app.db.models import Acknowledgement, Destination, Event, Job
from app.db.read.figures import AT_MOST
from app.domain import canary
from app.domain.acknowledging import AckKind, AckScope
from app.errors import InvalidInput
from app.ids import EVENT, JOB, parse

NAMED: Final = 20  # destinations, with their counts
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before any row

_events: Final = bulk.table(Event)
_jobs: Final = bulk.table(Job)


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Discarded jobs of a destination that are not acknowledged.

    count: up to AT_MOST + 1 of all destinations together. since, newest: when the first and the last of them were
    discarded. problem: why the last one was.
    """

    team: str
    destination: str
    count: int
    since: datetime
    newest: datetime
    problem: str | None


@dataclass(frozen=True, slots=True)
class FailedEvents:
    """Failed events that are not acknowledged; members as those of `DeadLetters`."""

    count: int
    since: datetime
    newest: datetime
    problem: str | None


def dead_letters(
    session: Session, *, team: str | None = None, destination: str | None = None
) -> tuple[list[DeadLetters], int]:
    """Unacknowledged dead letters by destination, of all or of one, and how many further destinations have some."""
    newer = _newer(session)
    since = _scalar(newer(_jobs.c.finished_at).order_by(_jobs.c.finished_at).limit(1))
    found = _destinations(since)
    if team is not None:
        found = found.where(Destination.team == team)
    if destination is not None:
        found = found.where(Destination.name == destination)
    rows = [row for row in session.execute(found) if row[2] is not None]
    named, share = rows[:NAMED], AT_MOST // max(1, min(len(rows), NAMED))
    if not named:
        return [], 0
    newest = newer(_jobs.c.id).order_by(_jobs.c.finished_at.desc())
    some = newest.limit(share + 1).correlate(*_OUTER).subquery()
    last = (_scalar(newest.with_only_columns(column).limit(1)) for column in (_jobs.c.finished_at, _jobs.c.problem))
    counted = _destinations(since, _scalar(select(func.count()).select_from(some)), *last)
    names = [(row[0], row[1]) for row in named]
    letters = [
        DeadLetters(owner, name, count, first, ended or first, problem)
        for owner, name, first, count, ended, problem in session.execute(
            counted.where(tuple_(Destination.team, Destination.name).in_(names))
        )
        if first is not None
    ]
    return letters, len(rows) - len(named)


def failed_events(session: Session) -> FailedEvents | None:
    """Unacknowledged failed events; None: there is none."""
    everything = acknowledgements.until(session, AckScope(AckKind.EVENTS)) or EARLIEST
    ids = _acknowledged(session, AckKind.EVENTS)
    newer = select(_events.c.processed_at, _events.c.problem).where(
        text("events.state = 'failed'"),
        _events.c.environment != canary.ENVIRONMENT,
        _events.c.processed_at > everything,
        _not_in(_events, ids),
    )
    since = session.scalar(newer.order_by(_events.c.processed_at).limit(1))
    if since is None:
        return None
    count, newest, problem = _counted(session, newer, AT_MOST)
    return FailedEvents(count, since, newest or since, problem)


_DISCARDED: Final = text("jobs.state = 'discarded'")  # a literal, so that the partial index is used


_OUTER: Final = (Destination, Acknowledgement)


def _newer(session: Session) -> Callable[..., Select[Any]]:
    """Dead letters of a destination that are newer than what was acknowledged of it: a function of their columns."""
    everything = acknowledgements.until(session, AckScope(AckKind.JOBS)) or EARLIEST
    ids = _acknowledged(session, AckKind.JOBS)
    floor = func.coalesce(Acknowledgement.until_at, everything)
    of_mine = (_jobs.c.team == Destination.team, _jobs.c.destination == Destination.name)
    newer = (_jobs.c.finished_at > everything, _jobs.c.finished_at > floor, _not_in(_jobs, ids))
    return lambda *columns: select(*columns).where(_DISCARDED, *of_mine, *newer)


def _scalar(statement: Select[Any]) -> ScalarSelect[Any]:
    """A value of each destination, by one index access."""
    return statement.correlate(*_OUTER).scalar_subquery()


def _destinations(*values: ScalarSelect[Any]) -> Select[Any]:
    """Team and name of each destination with values of its dead letters."""
    mine = and_(
        Acknowledgement.kind == AckKind.JOBS, Acknowledgement.subject == Destination.team + "/" + Destination.name
    )
    return (
        select(Destination.team, Destination.name, *values)
        .outerjoin(Acknowledgement, mine)
        .where(Destination.team != canary.TEAM)
        .order_by(Destination.team, Destination.name)
    )


def _counted(session: Session, newer: Select[Any], at_most: int) -> tuple[int, datetime | None, str | None]:
    """The number of rows up to `at_most` + 1, and end and problem of the newest. newer: their ends and problems."""
    ended, _ = newer.selected_columns
    bounded = newer.with_only_columns(ended).order_by(ended.desc()).limit(at_most + 1).subquery()
    count = session.scalar(select(func.count()).select_from(bounded)) or 0
    last = session.execute(newer.order_by(ended.desc()).limit(1)).first()
    return (count, last[0], last[1]) if last else (count, None, None)


def _acknowledged(session: Session, kind: AckKind) -> list[UUID]:
    """The rows that were acknowledged by their ids, and have not ended once more since."""
    rows, ended, prefix = (_jobs, _jobs.c.finished_at, JOB) if kind is AckKind.JOBS else _ENDED_EVENTS
    until: dict[UUID, datetime] = {}
    for subject, until_at in acknowledgements.single(session, kind).items():
        with suppress(InvalidInput):  # a row that was written by hand
            until[parse(prefix, subject)] = until_at
    if not until:
        return []
    found = session.execute(select(rows.c.id, ended).where(rows.c.id.in_(until)))
    return [row_id for row_id, ended_at in found if ended_at is not None and ended_at <= until[row_id]]


_ENDED_EVENTS: Final = (_events, _events.c.processed_at, EVENT)


def _not_in(rows: Table, ids: Sequence[UUID]) -> ColumnElement[bool]:
    return rows.c.id.not_in(ids) if ids else true()
