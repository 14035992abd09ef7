"""Jobs that wait, by destination, and refreshes that are due, read from indexes and counted up to a bound."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, ScalarSelect, case, func, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.jobs import HELD, READY, UNFINISHED
from app.db.models import Destination, DestinationHealth, Job, Refresh

DESTINATIONS: Final = 100  # in order of team and name
COUNTED: Final = 2000  # jobs of one destination, of each kind
REFRESHES: Final = 10_000

_jobs: Final = bulk.table(Job)
_PARKED: Final = UNFINISHED & _jobs.c.blocked_by.is_not(None)


@dataclass(frozen=True, slots=True)
class DestinationQueue:
    """Jobs of a destination. waiting, parked: up to COUNTED + 1. oldest_due: None where none is due."""

    team: str
    destination: str
    state: str  # `delivering`, `failing` or `disabled`
    waiting: int
    parked: int
    oldest_due: datetime | None


@dataclass(frozen=True, slots=True)
class DueRefreshes:
    """count: up to REFRESHES + 1."""

    count: int
    oldest_due: datetime | None


def destinations(session: Session, *, now: datetime) -> list[DestinationQueue]:
    """The queues of the first DESTINATIONS destinations that are in force, by one statement."""
    health = DestinationHealth
    mine = (health.team == Destination.team) & (health.destination == Destination.name)
    state = case(
        (Destination.disabled_at.is_not(None), "disabled"), (health.failing_since.is_not(None), "failing"),
        else_="delivering",
    )  # fmt: skip
    found = (
        select(
            Destination.team,
            Destination.name,
            state,
            _count(READY) + _count(HELD),
            _count(_PARKED),
            _first_due(READY, now),
            _first_due(HELD, now),
        )
        .outerjoin(health, mine)
        .where(Destination.retired_at.is_(None))
        .order_by(Destination.team, Destination.name)
        .limit(DESTINATIONS)
    )
    return [
        DestinationQueue(team, name, in_state, min(waiting, COUNTED + 1), parked, min(filter(None, due), default=None))
        for team, name, in_state, waiting, parked, *due in session.execute(found)
    ]


def refreshes(session: Session, *, now: datetime) -> DueRefreshes:
    """Plans that are due."""
    due = select(Refresh.next_at).where(Refresh.finished_at.is_(None), Refresh.next_at <= now)
    first = due.order_by(Refresh.next_at).limit(REFRESHES + 1).subquery()
    row = session.execute(select(func.count(), func.min(first.c.next_at))).one()
    return DueRefreshes(row[0], row[1])


def _count(which: ColumnElement[bool]) -> ScalarSelect[Any]:
    some = select(_jobs.c.id).where(which, *_of_destination()).correlate(Destination).limit(COUNTED + 1)
    return select(func.count()).select_from(some.subquery()).scalar_subquery()


def _first_due(which: ColumnElement[bool], now: datetime) -> ScalarSelect[Any]:
    due = select(_jobs.c.next_at).where(which, *_of_destination(), _jobs.c.next_at <= now).order_by(_jobs.c.next_at)
    return due.correlate(Destination).limit(1).scalar_subquery()


def _of_destination() -> tuple[ColumnElement[bool], ...]:
    return (_jobs.c.team == Destination.team, _jobs.c.destination == Destination.name)
