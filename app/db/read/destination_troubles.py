"""Destinations that take no jobs now, with the jobs that wait for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.jobs import UNFINISHED
from app.db.models import Destination, DestinationHealth, Job
from app.db.read.figures import AT_MOST
from app.domain.definitions import DestinationKey

NAMED: Final = 50  # destinations, with the number of their jobs

_jobs: Final = bulk.table(Job)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A destination in force that fails or is disabled.

    parked: its jobs that wait, up to AT_MOST + 1 of all destinations together.
    """

    team: str
    destination: str
    failing_since: datetime | None
    last_error: str | None
    disabled_at: datetime | None
    disabled_reason: str | None
    parked: int


def troubled(session: Session) -> tuple[list[Trouble], int]:
    """Destinations that fail or are disabled, by team and name, and how many more there are."""
    health = DestinationHealth
    mine = (health.team == Destination.team) & (health.destination == Destination.name)
    columns = (Destination.team, Destination.name, health.failing_since, health.last_error)
    found = (
        select(*columns, Destination.disabled_at, Destination.disabled_reason)
        .outerjoin(health, mine)
        .where(
            Destination.retired_at.is_(None),
            or_(health.failing_since.is_not(None), Destination.disabled_at.is_not(None)),
        )
    )
    rows = session.execute(found.order_by(Destination.team, Destination.name)).all()
    named, share = rows[:NAMED], AT_MOST // max(1, min(len(rows), NAMED))
    parked = _parked(session, [(row[0], row[1]) for row in named], share)
    return [Trouble(*row, parked=parked[row[0], row[1]]) for row in named], len(rows) - len(named)


def _parked(session: Session, of: Sequence[DestinationKey], at_most: int) -> dict[DestinationKey, int]:
    """The number of jobs of each that wait."""
    mine = (_jobs.c.team == Destination.team, _jobs.c.destination == Destination.name)
    waiting = select(_jobs.c.id).where(UNFINISHED, _jobs.c.blocked_by.is_not(None), *mine).order_by(_jobs.c.next_at)
    some = waiting.correlate(Destination).limit(at_most + 1).subquery()
    count = select(func.count()).select_from(some).scalar_subquery()
    key = (Destination.team, Destination.name)
    return {(row[0], row[1]): row[2] for row in session.execute(select(*key, count).where(tuple_(*key).in_(of)))}
