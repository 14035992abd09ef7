"""What waits for each destination, as people and programs see it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.db.read import backlog
from app.db.read.backlog import Group, Place
from app.domain.states import Fault, JobState


def summary(session: Session, *, team: str | None = None) -> list[dict[str, Any]]:
    """A row for jobs that are alike: unfinished and discarded ones, by destination, state, reason and fault."""
    found = backlog.groups(session, backlog.places(session, team=team), team=team)
    return [
        {
            "team": one.team,
            "destination": one.destination,
            "state": one.state,
            "blocked_by": one.blocked_by,
            "fault": one.fault,
            "count": one.count,
            "capped": one.capped,
            "oldest_at": one.oldest_at.isoformat(),
        }
        for one in sorted(found, key=lambda one: (one.team, one.destination))
    ]


def queues(session: Session, *, now: datetime, team: str | None = None) -> list[dict[str, Any]]:
    """A row for each destination that is in force or has jobs yet."""
    places = backlog.places(session, team=team)
    groups = backlog.groups(session, places, team=team)
    rows = []
    for place in places:
        mine = [one for one in groups if (one.team, one.destination) == (place.team, place.destination)]
        if mine or not place.retired:
            rows.append(_queue(place, mine, now))
    return rows


def _queue(place: Place, groups: Sequence[Group], now: datetime) -> dict[str, Any]:
    going = [one for one in groups if one.blocked_by is None and one.state != JobState.DISCARDED]
    due = [one.oldest_at for one in going if one.oldest_at <= now and one.state != JobState.RUNNING]
    given_up = [one for one in groups if one.state == JobState.DISCARDED]
    return {
        "team": place.team,
        "destination": place.destination,
        "kind": place.kind,
        "disabled": place.disabled_at is not None,
        "failing_since": place.failing_since.isoformat() if place.failing_since else None,
        "available": sum(one.count for one in going if one.state == JobState.AVAILABLE),
        "running": sum(one.count for one in going if one.state == JobState.RUNNING),
        "retryable": sum(one.count for one in going if one.state == JobState.RETRYABLE),
        "parked": sum(one.count for one in groups if one.blocked_by is not None),
        "discarded_by_team": sum(one.count for one in given_up if one.fault == Fault.TEAM),
        "discarded_by_us": sum(one.count for one in given_up if one.fault != Fault.TEAM),
        "oldest_due_at": min(due).isoformat() if due else None,
        "capped": any(one.capped for one in groups),
    }
