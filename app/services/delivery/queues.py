"""Backlogs of destinations, for people and programs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app.db.read import backlog
from app.db.read.backlog import BacklogDestination, Group
from app.domain.states import Fault, JobState


def summary(session: Session, *, team: str | None = None) -> list[dict[str, Any]]:
    """Numbers of unfinished and discarded jobs, one row per destination, state, reason and fault."""
    found = backlog.groups(session, backlog.destinations(session, team=team), team=team)
    return [
        {
            "team": group.team,
            "destination": group.destination,
            "state": group.state,
            "blocked_by": group.blocked_by,
            "fault": group.fault,
            "count": group.count,
            "capped": group.capped,
            "oldest_at": group.oldest_at.isoformat(),
        }
        for group in sorted(found, key=lambda group: (group.team, group.destination))
    ]


def queues(session: Session, *, now: datetime, team: str | None = None) -> list[dict[str, Any]]:
    """One row per destination that is in force or still has jobs."""
    destinations = backlog.destinations(session, team=team)
    groups = backlog.groups(session, destinations, team=team)
    rows = []
    for destination in destinations:
        key = (destination.team, destination.destination)
        mine = [group for group in groups if (group.team, group.destination) == key]
        if mine or not destination.retired:
            rows.append(_queue(destination, mine, now))
    return rows


def _queue(destination: BacklogDestination, groups: Sequence[Group], now: datetime) -> dict[str, Any]:
    going = [group for group in groups if group.blocked_by is None and group.state != JobState.DISCARDED]
    due = [group.oldest_at for group in going if group.oldest_at <= now and group.state != JobState.RUNNING]
    given_up = [group for group in groups if group.state == JobState.DISCARDED]
    return {
        "team": destination.team,
        "destination": destination.destination,
        "kind": destination.kind,
        "disabled": destination.disabled_at is not None,
        "failing_since": destination.failing_since.isoformat() if destination.failing_since else None,
        "available": sum(group.count for group in going if group.state == JobState.AVAILABLE),
        "running": sum(group.count for group in going if group.state == JobState.RUNNING),
        "retryable": sum(group.count for group in going if group.state == JobState.RETRYABLE),
        "parked": sum(group.count for group in groups if group.blocked_by is not None),
        "discarded_by_team": sum(group.count for group in given_up if group.fault == Fault.TEAM),
        "discarded_by_us": sum(group.count for group in given_up if group.fault != Fault.TEAM),
        "oldest_due_at": min(due).isoformat() if due else None,
        "capped": any(group.capped for group in groups),
    }
