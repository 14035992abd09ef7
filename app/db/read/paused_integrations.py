"""Integrations whose refreshes are paused, for people: since when, why, and when they are tried again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db import refresh_pauses
from app.db.models import RefreshPause
from app.db.read.figures import AT_MOST
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.outages import PauseCause


@dataclass(frozen=True, slots=True)
class PausedIntegration:
    """A paused integration. actor, reason: of an operator's pause.

    failed, renewed_or_failed, share: of an outage, the connections that began to fail within the window in which it was
    seen, of those that were renewed or began to fail. probes: rounds of probes so far; next_probe_at: None until it is
    resumed by hand. waiting: plans that were due and are held, counted up to AT_MOST + 1.
    """

    environment: str
    integration: str
    cause: PauseCause
    paused_at: datetime
    actor: str | None
    reason: str | None
    failed: int | None
    renewed_or_failed: int | None
    probes: int
    next_probe_at: datetime | None
    waiting: int

    @property
    def share(self) -> float | None:
        return self.failed / self.renewed_or_failed if self.failed is not None and self.renewed_or_failed else None

    @property
    def problem(self) -> str:
        """The cause as a sentence."""
        if self.cause is PauseCause.OPERATOR:
            return f"paused by {self.actor}: {self.reason}" if self.reason else f"paused by {self.actor}"
        return f"{self.failed} of {self.renewed_or_failed} connections began to fail within ten minutes"

    def shown(self) -> dict[str, Any]:
        """As a JSON object, with times in ISO 8601."""
        return {
            "environment": self.environment,
            "integration": self.integration,
            "cause": self.cause,
            "problem": self.problem,
            "paused_at": self.paused_at.isoformat(),
            "actor": self.actor,
            "reason": self.reason,
            "failed": self.failed,
            "renewed_or_failed": self.renewed_or_failed,
            "share": None if self.share is None else round(self.share, 3),
            "probes": self.probes,
            "next_probe_at": self.next_probe_at.isoformat() if self.next_probe_at else None,
            "waiting": self.waiting,
        }


def why_paused(session: Session, environment: str, integration: str) -> str | None:
    """The reason why an integration is paused; None: it is not."""
    row = refresh_pauses.find(session, IntegrationKey(environment, integration))
    return None if row is None else _paused(row, waiting=0).problem


def listed(session: Session, *, environment: str | None = None) -> list[PausedIntegration]:
    """The paused integrations, by environment and name."""
    wanted = select(RefreshPause).order_by(RefreshPause.environment, RefreshPause.integration)
    if environment is not None:
        wanted = wanted.where(RefreshPause.environment == environment)
    return [
        _paused(row, waiting=refresh_pauses.count_held(session, refresh_pauses.key_of(row), at_most=AT_MOST + 1))
        for row in session.scalars(wanted)
    ]


def _paused(row: RefreshPause, *, waiting: int) -> PausedIntegration:
    return PausedIntegration(
        row.environment,
        row.integration,
        PauseCause(row.cause),
        row.paused_at,
        row.actor,
        row.reason,
        row.failed,
        row.renewed_or_failed,
        row.probes,
        row.probe_at,
        waiting,
    )
