"""Statements on jobs.

Each destination has a queue: its jobs in the order of `next_at`. A claim takes the heads of several queues in one
statement, whose cost depends neither on their lengths nor on the number of other queues.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Raw, Struct
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
from app.db.models import Event, Job
from app.db.types import UtcDateTime
from app.domain.definitions import DestinationKey
from app.domain.states import UNFINISHED_JOBS, Block, JobState

_jobs: Final = bulk.table(Job)
# Literals: SQLite uses no partial index for a condition with parameters.
UNFINISHED: Final = _jobs.c.state.in_(bindparam("states", UNFINISHED_JOBS, expanding=True, literal_execute=True))
# The conditions of the partial indexes; `crashes` is literal for the same reason.
READY: Final = UNFINISHED & _jobs.c.blocked_by.is_(None) & text("crashes = 0")
HELD: Final = (
    UNFINISHED & _jobs.c.blocked_by.is_(None) & text("crashes > 0")
)  # possibly poison: running, or its worker was killed
PARKED: Final = UNFINISHED & _jobs.c.blocked_by.is_not(None) & _jobs.c.blocked_by.in_(list(Block))


class ClaimedJob(Struct, frozen=True):
    """A job as the deliverer needs it. `attempts` and `crashes` include this claim."""

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
    def key(self) -> DestinationKey:
        return self.team, self.destination


class EventDocument(NamedTuple):
    """A routed event's document, as raw JSON text that is passed on without parsing, and the event's trace."""

    document: Raw
    traceparent: str | None = None


class JobToSend(Struct, frozen=True):
    """A claimed job, and its event's document."""

    job: ClaimedJob
    event: EventDocument


def claimed_until(until: datetime) -> dict[str, Any]:
    """Columns of a job that is inserted as claimed: its first attempt has begun."""
    return {"state": JobState.RUNNING, "attempts": 1, "crashes": 1, "next_at": until}


def claimed_job(row: bulk.Row) -> ClaimedJob:
    """The job of a row to insert with the columns of `claimed_until`."""
    return ClaimedJob(
        id=row["id"],
        event_id=row["event_id"],
        route=row["route"],
        route_version=row["route_version"],
        team=row["team"],
        destination=row["destination"],
        name=row["name"],
        attempts=row["attempts"],
        crashes=row["crashes"],
        schedule_from=0,
        backfill=False,
        created_at=row["created_at"],
    )


@dataclass(frozen=True, slots=True)
class QueueHead:
    """The first `most` jobs of a destination's queue. `until`: the end of their lease, if they are claimed."""

    team: str
    destination: str
    most: int
    until: datetime

    @property
    def key(self) -> DestinationKey:
        return self.team, self.destination


def count_by_destination(jobs: Iterable[ClaimedJob]) -> Counter[DestinationKey]:
    """Number of jobs by destination."""
    return Counter(job.key for job in jobs)


def claim(
    session: Session, heads: Sequence[QueueHead], *, now: datetime, possibly_poison: bool = False
) -> list[ClaimedJob]:
    """Claim due jobs at these heads: count the attempt and set the lease.

    `possibly_poison`: those whose last claim brought no result, in place of all others.
    """
    claiming = _claiming(bulk.dialect(session), possibly_poison=possibly_poison)
    parameters = _parameters(session, heads, now)
    taken = [job for values in parameters for job in bulk.records(session, ClaimedJob, claiming, values)]
    return sorted(taken, key=lambda job: job.id.int)  # UUIDs compare in Python


def park(
    session: Session, heads: Sequence[QueueHead], *, by: Block, now: datetime, possibly_poison: bool = False
) -> Counter[DestinationKey]:
    """Park due jobs at these heads, so that claims pass over them. Returns their numbers by destination."""
    parking = _parking(bulk.dialect(session), possibly_poison=possibly_poison)
    return _count(session, parking, [{**values, "by": by} for values in _parameters(session, heads, now)])


def release(session: Session, heads: Sequence[QueueHead], *, now: datetime) -> Counter[DestinationKey]:
    """Put parked jobs back into their queues, the longest due first. Returns their numbers by destination."""
    return _count(session, _releasing(bulk.dialect(session)), _parameters(session, heads, now))


def _count(
    session: Session, statement: ReturningUpdate[Any], parameters: Sequence[Mapping[str, Any]]
) -> Counter[DestinationKey]:
    rows = (row for values in parameters for row in session.execute(statement, values))
    return Counter((team, destination) for team, destination in rows)


def _parameters(session: Session, heads: Sequence[QueueHead], now: datetime) -> list[dict[str, Any]]:
    """One set for all heads on PostgreSQL; one for each on SQLite, where a statement costs no round trip."""
    if bulk.dialect(session) == "postgresql":
        return [{"heads": msgspec.json.encode(heads).decode(), "now": now}] if heads else []
    return [
        {"of_team": head.team, "of_destination": head.destination, "most": head.most, "until": head.until, "now": now}
        for head in heads
    ]


@cache
def _claiming(dialect: str, *, possibly_poison: bool) -> ReturningUpdate[Any]:
    chosen = _chosen(dialect, HELD if possibly_poison else READY)
    counted = {"attempts": _jobs.c.attempts + 1, "crashes": _jobs.c.crashes + 1}
    return (
        update(_jobs)
        .where(_jobs.c.id == chosen.c.id)
        .values(state=JobState.RUNNING, next_at=chosen.c.until, **counted)
        .returning(*bulk.columns(Job, ClaimedJob))
    )


@cache
def _parking(dialect: str, *, possibly_poison: bool) -> ReturningUpdate[Any]:
    chosen = _chosen(dialect, HELD if possibly_poison else READY)
    # A possibly poison job may still be running, by a worker that died.
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
        queue = (_jobs.c.team == bindparam("of_team"), _jobs.c.destination == bindparam("of_destination"))
        until = bindparam("until", type_=UtcDateTime()).label("until")
        return due.add_columns(until).where(*queue).limit(bindparam("most")).cte("chosen")
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
    queue = (_jobs.c.team == heads.c.team, _jobs.c.destination == heads.c.destination)
    taken = due.where(*queue).limit(heads.c.most).correlate(heads).lateral("taken")
    return select(taken.c.id, heads.c.until).select_from(heads.join(taken, true())).cte("chosen")


def destinations_of(session: Session, ids: Collection[UUID]) -> set[DestinationKey]:
    """The destinations of jobs, for hints."""
    found = session.execute(_destinations_of(bulk.dialect(session)), bulk.keys(ids))
    return {(team, destination) for team, destination in found}


@cache
def _destinations_of(dialect: str) -> Select[Any]:
    return select(_jobs.c.team, _jobs.c.destination).where(bulk.among(dialect, _jobs.c.id)).distinct()


def change(session: Session, changes: Sequence[bulk.Row]) -> None:
    """Change jobs, each by its `id`."""
    bulk.update(session, Job, changes)


def record_results(session: Session, changes: Sequence[bulk.Row]) -> set[tuple[UUID, int]]:
    """Update running jobs, each row with its `id` and the `attempts` of its claim. Returns the (id, attempts) updated.

    The others are missing in it: their lease ended, and another process has claimed them. Rows are locked in the order
    of ids, as actions on jobs and erasing lock them; claims skip locked rows.
    """
    in_order = sorted(changes, key=lambda row: row["id"].int)
    return bulk.update_where(session, Job, in_order, same="attempts", also="jobs.state = 'running'")


def complete_first_attempts(
    session: Session, ids: Collection[UUID], *, started_at: datetime, latency_ms: float, now: datetime
) -> set[UUID]:
    """Complete running jobs of one batch that a broker accepted at their first attempt. Returns those updated."""
    values = {"started_at": started_at, "latency_ms": latency_ms, "now": now}
    return set(session.scalars(_completing(bulk.dialect(session)), {**values, **bulk.keys(ids)}))


@cache
def _completing(dialect: str) -> ReturningUpdate[Any]:
    mine = bulk.among(dialect, _jobs.c.id), _jobs.c.state == JobState.RUNNING, _jobs.c.attempts == 1
    ended = {"state": JobState.COMPLETED, "crashes": 0, "problem": None}
    measured: dict[str, Any] = {
        "finished_at": bindparam("now"),
        "started_at": bindparam("started_at"),
        "latency_ms": bindparam("latency_ms"),
    }
    return update(_jobs).where(*mine).values(**ended, **measured).returning(_jobs.c.id)


def documents(session: Session, event_ids: Collection[UUID]) -> dict[UUID, EventDocument]:
    """Each event's routed document, by event id. Documents that are no JSON object are left out."""
    found = session.execute(_documents(bulk.dialect(session)), bulk.keys(event_ids)).all()
    return {
        event_id: EventDocument(Raw((document or "{}").encode()), traceparent)
        for event_id, document, traceparent in found
    }


@cache
def _documents(dialect: str) -> Select[Any]:
    events = bulk.table(Event)
    if dialect == "postgresql":
        is_object = func.jsonb_typeof(events.c.document) == "object"
    else:  # in this order, as `json_type` fails for what is no JSON
        is_object = case((func.json_valid(events.c.document), func.json_type(events.c.document) == "object"))
    usable = events.c.document.is_(None) | is_object
    columns = events.c.id, cast(events.c.document, Text), events.c.traceparent
    return select(*columns).where(bulk.among(dialect, events.c.id), usable)


def any_of(session: Session, event_id: UUID) -> bool:
    """True if an event has a job."""
    return session.scalar(select(_jobs.c.id).where(_jobs.c.event_id == event_id).limit(1)) is not None


def waits(
    which: ColumnElement[bool], *, team: ColumnElement[str], destination: ColumnElement[str]
) -> ColumnElement[bool]:
    """Condition on a destination's row: such a job is due in its queue at `:now`. An EXISTS, so one index lookup."""
    due = _jobs.c.next_at <= bindparam("now", type_=UtcDateTime())
    mine = (_jobs.c.team == team, _jobs.c.destination == destination)
    return select(literal(1)).where(which, due, *mine).exists()
