"""Disable and enable a destination. Workers see it within a second; its parked jobs follow by themselves."""

from datetime import datetime

from sqlalchemy.orm import Session

from app.db import destinations
from app.domain.states import DestinationTransition
from app.services.definitions.alerts import Alerts, ChangedDestination


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
    """Park its jobs from now on; False if it was disabled already. With `url`, only while that is its address."""
    changed = destinations.disable(session, team=team, destination=destination, reason=reason, now=now, url=url)
    if changed:
        told = ChangedDestination(
            team=team, destination=destination, change=DestinationTransition.DISABLED, reason=reason
        )
        alerts.destinations_changed(session, [told], now=now)
    return changed


def enable(session: Session, alerts: Alerts, *, team: str, destination: str, now: datetime) -> bool:
    """Release its jobs, and forget that it failed; False if it was enabled already."""
    since = destinations.disabled_since(session, team=team, destination=destination)
    changed = destinations.enable(session, team=team, destination=destination)
    if changed:
        destinations.forget_failures(session, team=team, destination=destination)
        told = ChangedDestination(
            team=team,
            destination=destination,
            change=DestinationTransition.RECOVERED,
            reason="somebody enabled it",
            since=since,
        )
        alerts.destinations_changed(session, [told], now=now)
    return changed
