"""Refreshes and tokens that are late, for status and metrics."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.db import ticks
from app.db.read import refresh_health
from app.db.read.refresh_health import LateGroup
from app.services.policy import Policy

TICK_LATE: Final = timedelta(minutes=3)  # without a tick; calls to a Nango that hangs take more than a minute


@dataclass(frozen=True, slots=True)
class Lateness:
    """overdue, lapsed: by integration, the most overdue first. paused: (environment, integration). tick: the last one;
    None: the refresh task has never run.
    """

    overdue: list[LateGroup]
    lapsed: list[LateGroup]
    paused: list[tuple[str, str]]
    tick: datetime | None

    def ticks(self, *, now: datetime) -> bool:
        """Whether the refresh task runs as it should, as far as is known."""
        return self.tick is None or self.tick >= now - TICK_LATE


def lateness(session: Session, policy: Policy, *, now: datetime) -> Lateness:
    """Everything that is late now. Lapsed tokens of integrations that no policy renews are left out."""
    lapsed = refresh_health.lapsed(session, now=now)
    return Lateness(
        overdue=refresh_health.overdue(session, now=now),
        lapsed=[one for one in lapsed if policy.refresh_of(one.environment, one.integration, one.provider)],
        paused=refresh_health.paused(session),
        tick=ticks.last(session, ticks.REFRESH_DUE),
    )
