"""Statements on the canary: one is on its way at a time, and its rows go when the next one begins."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Canary, Delivery, Destination, Event, Job, Team
from app.domain import canary
from app.domain.states import UNFINISHED_JOBS, EventState, JobState
from app.ids import new_id

ONLY: Final = 1  # the id of the row


@dataclass(frozen=True, slots=True)
class Passage:
    """The times at which a canary passed each stage. under_way: it is not at the end, and not given up."""

    stored_at: datetime | None
    processed_at: datetime | None
    delivered_at: datetime | None
    under_way: bool


def is_due(session: Session, *, now: datetime) -> bool:
    """Whether a canary is due, as far as can be told without a lock."""
    next_at = session.scalar(select(Canary.next_at))
    return next_at is None or next_at <= now


def begin(session: Session, *, now: datetime, period: timedelta) -> UUID | None:
    """Begin the next canary, if one is due and none is on its way: the id of the event that is to be stored.

    One process at a time; the first call of an installation makes the rows that canaries need.
    """
    row = session.scalar(select(Canary).with_for_update(skip_locked=True))
    if row is None:
        _prepare(session, now=now)
        return None
    if row.next_at > now:
        return None
    passage = passage_of(session, row.event_id)
    row.next_at = now + period
    if passage.under_way:
        return None
    _forget(session, row.event_id)
    row.stored_at = passage.stored_at or row.stored_at
    row.processed_at = passage.processed_at or row.processed_at
    row.delivered_at = passage.delivered_at or row.delivered_at
    row.event_id = new_id()
    return row.event_id


def passage_of(session: Session, event_id: UUID | None) -> Passage:
    """The passage of an event, by its row and its job's; nothing for one that is not stored."""
    event = session.get(Event, event_id) if event_id is not None else None
    if event is None:
        return Passage(None, None, None, under_way=False)
    job = session.scalar(select(Job).where(Job.event_id == event.id))
    is_processed = event.state == EventState.PROCESSED
    is_delivered = job is not None and job.state == JobState.COMPLETED
    return Passage(
        stored_at=event.received_at,
        processed_at=event.processed_at if is_processed else None,
        delivered_at=job.finished_at if job is not None and is_delivered else None,
        under_way=event.state == EventState.RECEIVED or (job is not None and job.state in UNFINISHED_JOBS),
    )


def _prepare(session: Session, *, now: datetime) -> None:
    """Make the team and the destination, removed and disabled from the first: a job refers to them, and no list shows
    them. A worker of an earlier release parks the jobs of a destination that is disabled.
    """
    source = canary.KIND
    team = {"name": canary.TEAM, "source": source, "created_at": now, "retired_at": now}
    session.execute(bulk.insert_for(session, Team).values(**team).on_conflict_do_nothing())
    destination = {
        "team": canary.TEAM,
        "name": canary.DESTINATION,
        "kind": "http",
        "source": source,
        "created_at": now,
        "disabled_at": now,
        "retired_at": now,
    }
    session.execute(bulk.insert_for(session, Destination).values(**destination).on_conflict_do_nothing())
    session.execute(bulk.insert_for(session, Canary).values(id=ONLY, next_at=now).on_conflict_do_nothing())


def _forget(session: Session, event_id: UUID | None) -> None:
    session.execute(delete(Job).where(Job.event_id == event_id))
    session.execute(delete(Event).where(Event.id == event_id))
    session.execute(delete(Delivery).where(Delivery.environment == canary.ENVIRONMENT))
