"""Numbers of waiting and discarded jobs by destination, read from indexes and counted up to a bound."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, select, text, true
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.jobs import HELD, READY, UNFINISHED
from app.db.models import Destination, DestinationHealth, Job
from app.domain import canary
from app.domain.definitions import DestinationKey

AT_MOST: Final = 10_000  # rows counted per destination's queue, and discarded jobs counted in all
TOGETHER: Final = 30_000  # rows counted of all queues: so many destinations share them
LEAST: Final = 100  # rows counted per destination's queue, however many destinations there are

_jobs: Final = bulk.table(Job)


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs of one destination with the same state, block and fault.

    oldest_at: when the first of them was due, or was discarded. capped: there are more than `count`, of this
    destination or, if discarded, of all.
    """

    team: str
    destination: str
    state: str
    blocked_by: str | None
    fault: str | None
    count: int
    oldest_at: datetime
    capped: bool


@dataclass(frozen=True, slots=True)
class BacklogDestination:
    """A destination, in force or retired."""

    team: str
    destination: str
    kind: str
    disabled_at: datetime | None
    failing_since: datetime | None
    retired: bool


def destinations(session: Session, *, team: str | None = None) -> list[BacklogDestination]:
    """Every destination, retired ones included, by team and name."""
    health = DestinationHealth
    mine = (health.team == Destination.team) & (health.destination == Destination.name)
    found = select(Destination, health.failing_since).outerjoin(health, mine).where(Destination.team != canary.TEAM)
    if team is not None:
        found = found.where(Destination.team == team)
    return [
        BacklogDestination(row.team, row.name, row.kind, row.disabled_at, failing_since, row.retired_at is not None)
        for row, failing_since in session.execute(found.order_by(Destination.team, Destination.name))
    ]


def groups(session: Session, of: Sequence[BacklogDestination], *, team: str | None = None) -> list[Group]:
    """Groups of waiting jobs of these destinations, and of the newest discarded jobs, of `team` or of all."""
    at_most = max(LEAST, min(AT_MOST, TOGETHER // (len(_QUEUES) * max(1, len(of)))))
    return [*_waiting(session, of, at_most, team), *_discarded(session, team)]


_QUEUES: Final = (READY, HELD, UNFINISHED & _jobs.c.blocked_by.is_not(None))


def _waiting(session: Session, of: Sequence[BacklogDestination], at_most: int, team: str | None) -> Iterator[Group]:
    """Groups by destination, in their order. PostgreSQL counts a kind of queue by one statement for all."""
    found: dict[DestinationKey, list[tuple[Any, ...]]] = defaultdict(list)
    for queue in _QUEUES:
        counts: dict[DestinationKey, list[tuple[Any, ...]]] = defaultdict(list)
        for owner, name, *counted in _counted(session, queue, of, at_most, team):
            counts[owner, name].append(tuple(counted))
        for key, rows in counts.items():
            capped = sum(row[2] for row in rows) > at_most
            found[key] += [(*row, capped) for row in rows]
    for each in of:
        for state, blocked_by, count, oldest_at, capped in found[each.team, each.destination]:
            yield Group(each.team, each.destination, state, blocked_by, None, count, oldest_at, capped)


def _counted(
    session: Session, queue: ColumnElement[bool], of: Sequence[BacklogDestination], at_most: int, team: str | None
) -> Iterator[Sequence[Any]]:
    """Team, destination, state, block, count and first moment of the first jobs of each queue."""
    if bulk.dialect(session) == "postgresql":
        mine = (_jobs.c.team == Destination.team, _jobs.c.destination == Destination.name)
        groups = _grouped(queue, mine, at_most, Destination).lateral()
        statement = select(Destination.team, Destination.name, *groups.c).join(groups, true())
        yield from session.execute(statement if team is None else statement.where(Destination.team == team))
        return
    for each in of:
        mine = (_jobs.c.team == each.team, _jobs.c.destination == each.destination)
        for row in session.execute(_grouped(queue, mine, at_most)):
            yield each.team, each.destination, *row


def _grouped(queue: ColumnElement[bool], mine: Sequence[ColumnElement[bool]], at_most: int, *outer: Any) -> Select[Any]:
    first = select(_jobs.c.state, _jobs.c.blocked_by, _jobs.c.next_at).where(queue, *mine)
    some = first.order_by(_jobs.c.next_at).limit(at_most + 1)
    counted = (some.correlate(*outer) if outer else some).subquery()
    return (
        select(
            counted.c.state,
            counted.c.blocked_by,
            func.count().label("count"),
            func.min(counted.c.next_at).label("oldest"),
        )
        .group_by(counted.c.state, counted.c.blocked_by)
        .order_by(counted.c.state)
    )


def _discarded(session: Session, team: str | None) -> list[Group]:
    columns = (_jobs.c.team, _jobs.c.destination, _jobs.c.fault)
    newest = select(*columns, _jobs.c.finished_at).where(text("jobs.state = 'discarded'"), _jobs.c.team != canary.TEAM)
    if team is not None:
        newest = newest.where(_jobs.c.team == team)
    first = newest.order_by(_jobs.c.id.desc()).limit(AT_MOST + 1).subquery()
    alike = (first.c.team, first.c.destination, first.c.fault)
    counts = select(*alike, func.count(), func.min(first.c.finished_at)).group_by(*alike).order_by(*alike)
    rows = session.execute(counts).all()
    capped = sum(row[3] for row in rows) > AT_MOST
    return [
        Group(owner, destination, "discarded", None, fault, count, oldest_at, capped)
        for owner, destination, fault, count, oldest_at in rows
    ]
