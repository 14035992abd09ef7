"""Statements for actions on jobs. Counting and choosing only read, without locks; an action locks rows by id."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, bindparam, exists, func, null, or_, select, text, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from app.db import bulk
from app.db.jobs import HELD, READY, UNFINISHED
from app.db.models import Event, Job
from app.domain import canary
from app.domain.job_actions import TAKES, JobAction
from app.domain.states import UNFINISHED_JOBS, JobState
from app.ids import first_id

_jobs: Final = bulk.table(Job)
_events: Final = bulk.table(Event)


@dataclass(frozen=True, slots=True)
class JobFilters:
    """Conditions on jobs, which all have to hold; None matches any. `ended`: completed, discarded or cancelled. as_of:
    without jobs that were made or ended later.
    """

    states: Collection[JobState]
    team: str | None = None
    destination: str | None = None
    route: str | None = None
    name: str | None = None
    fault: str | None = None
    event_type: str | None = None
    event_id: UUID | None = None
    created_since: datetime | None = None
    created_until: datetime | None = None
    ended_since: datetime | None = None
    ended_until: datetime | None = None
    parked: bool | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobGroup:
    """The number of jobs of a destination, in a state, with a fault."""

    team: str
    destination: str
    state: str
    fault: str | None
    count: int


@dataclass(frozen=True, slots=True)
class ChosenJob:
    """A job as it was when it was chosen."""

    id: UUID
    team: str
    destination: str
    route: str
    name: str
    state: str
    event_id: UUID
    attempts: int
    fault: str | None
    problem: str | None
    created_at: datetime
    finished_at: datetime | None


def choose(session: Session, filters: JobFilters, *, limit: int) -> list[ChosenJob]:
    """Up to `limit` matching jobs, not locked."""
    found: list[ChosenJob] = []
    for walk in _walks(filters):
        chosen = select(*bulk.columns(Job, ChosenJob)).where(*walk.matches).order_by(*walk.order)
        rows = session.execute(_filtered(chosen, filters).limit(limit - len(found)))
        found += [ChosenJob(*row) for row in rows]
        if len(found) >= limit:
            break
    return found


def count(session: Session, filters: JobFilters) -> list[JobGroup]:
    """The numbers of all matching jobs, sorted."""
    by = (_jobs.c.team, _jobs.c.destination, _jobs.c.state, _jobs.c.fault)
    counts: Counter[tuple[Any, ...]] = Counter()
    for walk in _walks(filters):
        counted = select(*by, func.count()).where(*walk.matches).group_by(*by)
        counts.update({tuple(row[:-1]): row[-1] for row in session.execute(_filtered(counted, filters))})
    ordered = sorted(counts.items(), key=lambda item: tuple(map(str, item[0])))
    return [JobGroup(team, destination, state, fault, number) for (team, destination, state, fault), number in ordered]


def page(
    session: Session, filters: JobFilters, *, after: tuple[datetime | None, UUID] | None, limit: int
) -> list[tuple[datetime | None, UUID]]:
    """The next `limit` matching jobs of one state behind the cursor `after`, each as a cursor: its time and id.

    The time is that of completion, in whose order completed jobs are walked, within a destination; others are walked by
    id, and have None. So a job that changes while a list is walked is not met twice.
    """
    found: list[tuple[datetime | None, UUID]] = []
    walks = list(_walks(filters))
    for walk in walks:
        ended, next_ones = walk.ended, select(null() if walk.ended is None else walk.ended, _jobs.c.id)
        statement = _filtered(next_ones.where(*walk.matches), filters)
        if after is not None:
            at, job_id = after
            behind = _jobs.c.id > job_id
            if ended is not None:
                statement, behind = statement.where(ended >= at), or_(ended > at, behind)
            statement = statement.where(behind)
        order = (_jobs.c.id,) if ended is None else (ended, _jobs.c.id)
        found += [(row[0], row[1]) for row in session.execute(statement.order_by(*order).limit(limit))]
    return sorted(found)[:limit] if len(walks) > 1 else found


def get_many(session: Session, ids: Collection[UUID]) -> list[ChosenJob]:
    """The jobs with these ids, in their order; unknown ids are left out."""
    rows = session.execute(_by_ids(bulk.dialect(session)), bulk.keys(ids))
    found = {row.id: ChosenJob(*row) for row in rows}
    return [found[job_id] for job_id in ids if job_id in found]


def take(session: Session, action: JobAction, ids: Collection[UUID], *, now: datetime) -> list[UUID]:
    """Apply an action to those of the jobs whose state it takes. Returns their ids."""
    parameters = {**bulk.keys(ids), "now": now}
    return list(session.scalars(_taking(bulk.dialect(session), action), parameters))


@cache
def _by_ids(dialect: str) -> Select[Any]:
    return select(*bulk.columns(Job, ChosenJob)).where(bulk.among(dialect, _jobs.c.id))


@cache
def _taking(dialect: str, action: JobAction) -> ReturningUpdate[Any]:
    taken = select(_jobs.c.id).where(bulk.among(dialect, _jobs.c.id), _jobs.c.state.in_(TAKES[action]))
    chosen = taken.order_by(_jobs.c.id).with_for_update().cte("chosen")
    return update(_jobs).where(_jobs.c.id == chosen.c.id).values(**_changes(action)).returning(_jobs.c.id)


def _changes(action: JobAction) -> dict[str, Any]:
    now = bindparam("now", type_=_jobs.c.next_at.type)
    if action is JobAction.CANCEL:
        return {"state": JobState.CANCELLED, "finished_at": now, "blocked_by": None}
    return {
        "state": JobState.AVAILABLE,
        "next_at": now,
        "crashes": 0,
        "schedule_from": _jobs.c.attempts,
        "fault": None,
        "problem": None,
        "finished_at": None,
    }


@dataclass(frozen=True, slots=True)
class _Walk:
    """Conditions by which an index finds jobs, and its order. ended: the column of completion, where it is in it."""

    matches: Sequence[Any]
    order: Sequence[Any]
    ended: Any = None


def _walks(filters: JobFilters) -> Iterator[_Walk]:
    """One for each state's index, as PostgreSQL might scan the table otherwise.

    Conditions of partial indexes are literal, for SQLite.
    """
    states = set(filters.states)
    if JobState.DISCARDED in states:
        yield _Walk([text("jobs.state = 'discarded'")], [_jobs.c.id])
    if JobState.CANCELLED in states:
        yield _Walk([text("jobs.state = 'cancelled'")], [_jobs.c.id])
    if JobState.COMPLETED in states:
        ended = _jobs.c.finished_at
        yield _Walk([text("jobs.state = 'completed'")], [_jobs.c.team, _jobs.c.destination, ended], ended)
    if unfinished := sorted(states & set(UNFINISHED_JOBS)):
        for queue in (READY, HELD, UNFINISHED & _jobs.c.blocked_by.is_not(None)):
            due = [queue, _jobs.c.state.in_(unfinished)]
            yield _Walk(due, [_jobs.c.team, _jobs.c.destination, _jobs.c.next_at])


def _filtered(statement: Select[Any], filters: JobFilters) -> Select[Any]:
    statement = statement.where(_jobs.c.team != canary.TEAM)
    for column, value in (
        (_jobs.c.team, filters.team),
        (_jobs.c.destination, filters.destination),
        (_jobs.c.route, filters.route),
        (_jobs.c.name, filters.name),
        (_jobs.c.fault, filters.fault),
        (_jobs.c.event_id, filters.event_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if filters.parked is not None:
        statement = statement.where(
            UNFINISHED, _jobs.c.blocked_by.is_not(None) if filters.parked else _jobs.c.blocked_by.is_(None)
        )
    if filters.event_type is not None:
        of_type = exists().where(_events.c.id == _jobs.c.event_id, _events.c.type == filters.event_type)
        statement = statement.where(of_type)
    # Ids are in the order of creation, so bounds of time become bounds of ids.
    if filters.created_since is not None:
        statement = statement.where(_jobs.c.id >= first_id(filters.created_since))
    if filters.created_until is not None:
        statement = statement.where(_jobs.c.id < first_id(filters.created_until))
    if filters.ended_since is not None:
        statement = statement.where(_jobs.c.finished_at >= filters.ended_since)
    if filters.ended_until is not None:
        statement = statement.where(_jobs.c.finished_at <= filters.ended_until)
    if filters.as_of is not None:
        not_later = or_(_jobs.c.finished_at.is_(None), _jobs.c.finished_at <= filters.as_of)
        statement = statement.where(_jobs.c.created_at <= filters.as_of, not_later)
    return statement


def ids_of(jobs: Sequence[ChosenJob]) -> list[UUID]:
    return [job.id for job in jobs]
