"""Statements for actions on jobs. Choosing only reads, without locks; an action locks the chosen rows by id."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, bindparam, exists, select, text, update
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
    """Conditions on jobs, which all have to hold; None matches any. `ended`: completed, discarded or cancelled."""

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
    for statement in _walks(filters):
        rows = session.execute(_filtered(statement, filters).limit(limit - len(found)))
        found += [ChosenJob(*row) for row in rows]
        if len(found) >= limit:
            break
    return found


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


def _walks(filters: JobFilters) -> Iterator[Select[Any]]:
    """One statement per state, each in the order of its index, as PostgreSQL might scan the table otherwise.

    Conditions of partial indexes are literal, for SQLite.
    """
    chosen = select(*bulk.columns(Job, ChosenJob))
    states = set(filters.states)
    if JobState.DISCARDED in states:
        yield chosen.where(text("jobs.state = 'discarded'")).order_by(_jobs.c.id)
    if JobState.CANCELLED in states:
        yield chosen.where(text("jobs.state = 'cancelled'")).order_by(_jobs.c.id)
    if JobState.COMPLETED in states:
        in_order = (_jobs.c.team, _jobs.c.destination, _jobs.c.finished_at)
        yield chosen.where(text("jobs.state = 'completed'")).order_by(*in_order)
    if unfinished := sorted(states & set(UNFINISHED_JOBS)):
        for queue in (READY, HELD, UNFINISHED & _jobs.c.blocked_by.is_not(None)):
            due = chosen.where(queue, _jobs.c.state.in_(unfinished))
            yield due.order_by(_jobs.c.team, _jobs.c.destination, _jobs.c.next_at)


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
    return statement


def ids_of(jobs: Sequence[ChosenJob]) -> list[UUID]:
    return [job.id for job in jobs]
