"""Statements on jobs and their attempts.

The jobs of a destination stand in a line of their own, in the order of `next_at`. A claim takes the heads of several
lines at once; what it costs does not depend on how long they are, nor on how many other lines there are.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw
from sqlalchemy import (
    CTE,
    ColumnElement,
    DateTime,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bulk
from app.db.models import Attempt, Event, Job
from app.db.types import UtcDateTime
from app.domain.states import UNFINISHED_JOBS, Block, JobState

_jobs: Final = bulk.table(Job)
# In the statement itself: SQLite does not use a partial index for states that come as parameters.
UNFINISHED: Final = _jobs.c.state.in_(bindparam("states", UNFINISHED_JOBS, expanding=True, literal_execute=True))
# As the indexes have them, `crashes` in the text for the same reason.
READY: Final = UNFINISHED & _jobs.c.blocked_by.is_(None) & text("crashes = 0")
HELD: Final = UNFINISHED & _jobs.c.blocked_by.is_(None) & text("crashes > 0")  # running, or its worker was killed
PARKED: Final = UNFINISHED & _jobs.c.blocked_by.is_not(None) & _jobs.c.blocked_by.in_(list(Block))

Key = tuple[str, str]  # team, destination


class ClaimedJob(NamedTuple):
    """What a worker gets to hand over. `attempts` and `crashes` count this claim."""

    id: UUID
    event_id: UUID
    route: str
    route_version: int
    team: str
    destination: str
    name: str
    attempts: int
    crashes: int
    schedule_from: int
    backfill: bool
    created_at: datetime

    @property
    def key(self) -> Key:
        return self.team, self.destination


@dataclass(frozen=True, slots=True)
class Head:
    """The first `most` jobs of a destination's line. `until`: the end of the lease of those that are claimed."""

    team: str
    destination: str
    most: int
    until: datetime

    @property
    def key(self) -> Key:
        return self.team, self.destination


def by_line(jobs: Iterable[ClaimedJob]) -> Counter[Key]:
    """How many of each destination."""
    return Counter(job.key for job in jobs)


def claim(session: Session, heads: Sequence[Head], *, now: datetime, suspects: bool = False) -> list[ClaimedJob]:
    """Take due jobs from the heads of these lines. Each is counted and leased.

    `suspects` are those whose last claim brought no result; they are kept apart from the others.
    """
    claiming = _claiming(bulk.dialect(session), suspects=suspects)
    taken = [ClaimedJob(*row) for given in _parameters(session, heads, now) for row in session.execute(claiming, given)]
    return sorted(taken, key=lambda job: job.id.int)  # UUIDs compare in Python


def park(session: Session, heads: Sequence[Head], *, by: Block, now: datetime, suspects: bool = False) -> Counter[Key]:
    """Set due jobs at the heads of these lines aside, so that no claim meets them again. How many, by line."""
    parking = _parking(bulk.dialect(session), suspects=suspects)
    return _count(session, parking, [{**given, "by": by} for given in _parameters(session, heads, now)])


def release(session: Session, heads: Sequence[Head], *, now: datetime) -> Counter[Key]:
    """Put parked jobs of these lines back, those first that have waited longest. How many, by line."""
    return _count(session, _releasing(bulk.dialect(session)), _parameters(session, heads, now))


def _count(session: Session, statement: ReturningUpdate[Any], parameters: Sequence[Mapping[str, Any]]) -> Counter[Key]:
    rows = (row for given in parameters for row in session.execute(statement, given))
    return Counter((team, destination) for team, destination in rows)


def _parameters(session: Session, heads: Sequence[Head], now: datetime) -> list[dict[str, Any]]:
    """One set for all heads on PostgreSQL, one for each on SQLite, which is no round trip away."""
    if bulk.dialect(session) == "postgresql":
        return [{"heads": msgspec.json.encode(heads).decode(), "now": now}] if heads else []
    return [
        {"of_team": one.team, "of_destination": one.destination, "most": one.most, "until": one.until, "now": now}
        for one in heads
    ]


@cache
def _claiming(dialect: str, *, suspects: bool) -> ReturningUpdate[Any]:
    chosen = _chosen(dialect, HELD if suspects else READY)
    counted = {"attempts": _jobs.c.attempts + 1, "crashes": _jobs.c.crashes + 1}
    return (
        update(_jobs)
        .where(_jobs.c.id == chosen.c.id)
        .values(state=JobState.RUNNING, next_at=chosen.c.until, **counted)
        .returning(*bulk.columns(Job, ClaimedJob))
    )


@cache
def _parking(dialect: str, *, suspects: bool) -> ReturningUpdate[Any]:
    chosen = _chosen(dialect, HELD if suspects else READY)
    # A suspect was left in the hands of a worker that is gone.
    state = case((_jobs.c.state == JobState.RUNNING, JobState.RETRYABLE), else_=_jobs.c.state)
    parked = update(_jobs).where(_jobs.c.id == chosen.c.id).values(blocked_by=bindparam("by"), state=state)
    return parked.returning(_jobs.c.team, _jobs.c.destination)


@cache
def _releasing(dialect: str) -> ReturningUpdate[Any]:
    chosen = _chosen(dialect, PARKED)
    released = update(_jobs).where(_jobs.c.id == chosen.c.id).values(blocked_by=None)
    return released.returning(_jobs.c.team, _jobs.c.destination)


def _chosen(dialect: str, which: ColumnElement[bool]) -> CTE:
    """The ids of the due jobs at the heads, with the end of their lease."""
    due = select(_jobs.c.id).where(which, _jobs.c.next_at <= bindparam("now", type_=UtcDateTime()))
    due = due.order_by(_jobs.c.next_at).with_for_update(skip_locked=True)
    if dialect != "postgresql":
        line = (_jobs.c.team == bindparam("of_team"), _jobs.c.destination == bindparam("of_destination"))
        until = bindparam("until", type_=UtcDateTime()).label("until")
        return due.add_columns(until).where(*line).limit(bindparam("most")).cte("chosen")
    heads = (
        func.jsonb_to_recordset(cast(bindparam("heads"), JSONB))
        .table_valued(
            column("team", Text),
            column("destination", Text),
            column("most", Integer),
            column("until", DateTime(timezone=True)),
        )
        .render_derived(name="heads", with_types=True)
    )
    line = (_jobs.c.team == heads.c.team, _jobs.c.destination == heads.c.destination)
    taken = due.where(*line).limit(heads.c.most).correlate(heads).lateral("taken")
    return select(taken.c.id, heads.c.until).select_from(heads.join(taken, true())).cte("chosen")


def lines_of(session: Session, ids: Collection[UUID]) -> set[Key]:
    """The destinations of these jobs: a hint says where there may be work."""
    found = session.execute(_lines(bulk.dialect(session)), bulk.keys(ids))
    return {(team, destination) for team, destination in found}


@cache
def _lines(dialect: str) -> Select[Any]:
    return select(_jobs.c.team, _jobs.c.destination).where(bulk.among(dialect, _jobs.c.id)).distinct()


def change(session: Session, changes: Sequence[bulk.Row]) -> None:
    """Change jobs, each by its `id`."""
    bulk.update(session, Job, changes)


def insert_attempts(session: Session, attempts: Sequence[bulk.Row]) -> None:
    """Add what deliveries came to."""
    bulk.insert(session, Attempt, attempts)


def settle(session: Session, changes: Sequence[bulk.Row]) -> set[tuple[UUID, int]]:
    """What becomes of jobs, each with its `id` and the `attempts` it was claimed at. Of those that changed these two:
    the others are ours no more, since their lease ran out and somebody else has them.

    They are given in the order of their ids, in which acts on jobs and erasing lock them, too; a claim waits for none.
    """
    in_order = sorted(changes, key=lambda one: one["id"].int)
    return bulk.update_where(session, Job, in_order, same="attempts", also="jobs.state = 'running'")


def documents(session: Session, event_ids: Collection[UUID]) -> dict[UUID, Raw]:
    """The judged document of each event, as the JSON text that it is: it is passed on, not looked at.

    Those that are no JSON object are left out.
    """
    found = session.execute(_documents(bulk.dialect(session)), bulk.keys(event_ids))
    return {event_id: Raw((document or "{}").encode()) for event_id, document in found}


@cache
def _documents(dialect: str) -> Select[Any]:
    events = bulk.table(Event)
    if dialect == "postgresql":
        is_object = func.jsonb_typeof(events.c.document) == "object"
    else:  # asked in this order: the type of what is no JSON is an error
        is_object = case((func.json_valid(events.c.document), func.json_type(events.c.document) == "object"))
    usable = events.c.document.is_(None) | is_object
    return select(events.c.id, cast(events.c.document, Text)).where(bulk.among(dialect, events.c.id), usable)


def any_of(session: Session, event_id: UUID) -> bool:
    """Whether any job came of an event."""
    return session.scalar(select(_jobs.c.id).where(_jobs.c.event_id == event_id).limit(1)) is not None


def waits(
    which: ColumnElement[bool], *, team: ColumnElement[str], destination: ColumnElement[str]
) -> ColumnElement[bool]:
    """Whether any such job stands in a line, as a condition on the row of its destination; due ones by `:now`."""
    due = _jobs.c.next_at <= bindparam("now", type_=UtcDateTime())
    mine = (_jobs.c.team == team, _jobs.c.destination == destination)
    return select(literal(1)).where(which, due, *mine).exists()
