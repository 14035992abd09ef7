"""Statements on the state of destinations: whether they take jobs, and how they do."""

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.db.models import Destination, DestinationHealth


def disable(
    session: Session, *, team: str, destination: str, reason: str, now: datetime, url: str | None = None
) -> bool:
    """Whether it was enabled until now. With `url`, only while that is its address."""
    statement = update(Destination).where(
        Destination.team == team, Destination.name == destination, Destination.disabled_at.is_(None)
    )
    if url is not None:
        statement = statement.where(Destination.url == url)
    return bool(session.execute(statement.values(disabled_at=now, disabled_reason=reason)).rowcount)  # type: ignore[attr-defined]


def enable(session: Session, *, team: str, destination: str) -> bool:
    """Whether it was disabled until now."""
    named = (Destination.team == team, Destination.name == destination)
    statement = update(Destination).where(*named, Destination.disabled_at.is_not(None))
    return bool(session.execute(statement.values(disabled_at=None, disabled_reason=None)).rowcount)  # type: ignore[attr-defined]


def forget_failures(session: Session, *, team: str, destination: str) -> None:
    """As if it had never failed."""
    health = DestinationHealth
    named = (health.team == team, health.destination == destination)
    session.execute(
        update(health).where(*named).values(succeeded=0, failed=0, failing_since=None, probe_at=None, probes=0)
    )
