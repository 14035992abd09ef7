"""Disable and enable destinations. Workers see it within a second, and park or release the jobs."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.db import destinations
from app.domain.states import DestinationTransition
from app.services.definitions.destination_alerts import Alerts, ChangedDestination


def disable(
    session: Session,
    alerts: Alerts,
    *,
    team: str,
    destination: str,
    reason: str,
    now: datetime,
    url: str | None = None,
) -> bool:
    """Disable a destination; with `url`, only while that is its address. False if nothing changed."""
    changed = destinations.disable(session, team=team, destination=destination, reason=reason, now=now, url=url)
    if changed:
        change = ChangedDestination(
            team=team, destination=destination, change=DestinationTransition.DISABLED, reason=reason
        )
        alerts.destinations_changed(session, [change], now=now)
    return changed


def enable(session: Session, alerts: Alerts, *, team: str, destination: str, now: datetime) -> bool:
    """Enable a destination and forget its failures. False if it was not disabled."""
    since = destinations.disabled_since(session, team=team, destination=destination)
    changed = destinations.enable(session, team=team, destination=destination)
    if changed:
        destinations.forget_failures(session, team=team, destination=destination)
        change = ChangedDestination(
            team=team,
            destination=destination,
            change=DestinationTransition.RECOVERED,
            reason="somebody enabled it",
            since=since,
        )
        alerts.destinations_changed(session, [change], now=now)
    return changed
