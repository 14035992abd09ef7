"""Numbers of waiting and discarded jobs by destination, read from indexes and counted up to a bound."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.jobs import HELD, READY, UNFINISHED
from app.db.models import Destination, DestinationHealth, Job
from app.domain import canary

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
    waiting = [group for destination in of for group in _waiting(session, destination, at_most)]
    return [*waiting, *_discarded(session, team)]


_QUEUES: Final = (READY, HELD, UNFINISHED & _jobs.c.blocked_by.is_not(None))


def _waiting(session: Session, destination: BacklogDestination, at_most: int) -> Iterator[Group]:
    for queue in _QUEUES:
        mine = (_jobs.c.team == destination.team, _jobs.c.destination == destination.destination)
        first = select(_jobs.c.state, _jobs.c.blocked_by, _jobs.c.next_at).where(queue, *mine)
        counted = first.order_by(_jobs.c.next_at).limit(at_most + 1).subquery()
        rows = session.execute(
            select(counted.c.state, counted.c.blocked_by, func.count(), func.min(counted.c.next_at))
            .group_by(counted.c.state, counted.c.blocked_by)
            .order_by(counted.c.state)
        ).all()
        capped = sum(row[2] for row in rows) > at_most
        for state, blocked_by, count, oldest_at in rows:
            yield Group(destination.team, destination.destination, state, blocked_by, None, count, oldest_at, capped)


def _discarded(session: Session, team: str | None) -> list[Group]:
    columns: tuple[ColumnElement[Any], ...] = (_jobs.c.team, _jobs.c.destination, _jobs.c.fault, _jobs.c.finished_at)
    newest = select(*columns).where(text("jobs.state = 'discarded'"), _jobs.c.team != canary.TEAM)
    if team is not None:
        newest = newest.where(_jobs.c.team == team)
    counts: Counter[tuple[str, str, str | None]] = Counter()
    oldest: dict[tuple[str, str, str | None], datetime] = {}
    for owner, destination, fault, finished_at in session.execute(
        newest.order_by(_jobs.c.id.desc()).limit(AT_MOST + 1)
    ):
        key = (owner, destination, fault)
        counts[key] += 1
        oldest[key] = min(finished_at, oldest.get(key, finished_at))
    capped = counts.total() > AT_MOST
    return [
        Group(owner, destination, "discarded", None, fault, count, oldest[owner, destination, fault], capped)
        for (owner, destination, fault), count in sorted(counts.items(), key=lambda item: tuple(map(str, item[0])))
    ]
