"""Sweeps: renew all connections of an integration within a span, as before its provider revokes tokens.

A sweep plans one forced renewal for each connection; workers carry them out as any other, within the request budget.
Opens short transactions.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.db import refresh_pauses
from app.db import refresh_sweeps as rows
from app.db.engine import Database
from app.db.refresh_sweeps import LeftAlone, SweptIntegration
from app.domain.refreshing.catalogue import Renewal
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.sweeping import SweepLoad, busiest_minute, require_span, turn
from app.errors import Conflict, NotFound
from app.services.bulk_actions import Audited, in_chunks
from app.services.policy import Policy

MOST: Final = 100_000  # connections of one sweep; their ids are kept in memory


@dataclass(frozen=True, slots=True)
class SweepPreview:
    """The connections that a sweep would renew, and its load. more: there are others, for a further sweep."""

    which: SweptIntegration
    ids: Sequence[UUID]
    more: bool
    left_alone: LeftAlone
    load: SweepLoad

    def shown(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "environment": self.which.environment,
            "integration": self.which.integration,
            "within_seconds": round(self.load.within.total_seconds()),
            "count": len(self.ids),
            "more": self.more,
            "swept_before": self.left_alone.swept,
            "not_refreshable": self.left_alone.not_refreshable,
            "needs_reconnect": self.left_alone.needs_reconnect,
            "busiest_minute": self.load.busiest,
            "calls_per_minute": round(self.load.calls_per_minute, 1),
            "budget_per_minute": self.load.budget_per_minute,
            "takes_seconds": round(self.load.takes.total_seconds()),
        }


def preview(
    session: Session,
    policy: Policy,
    environment: str,
    integration: str,
    *,
    within: timedelta,
    limit_per_minute: int,
    now: datetime,
    limit: int = MOST,
) -> SweepPreview:
    """The sweep that would begin now. limit_per_minute: of the account.

    Raises InvalidInput for the span, NotFound for an integration without connections, Conflict where nothing may be
    renewed.
    """
    require_span(within)
    which = SweptIntegration(environment, integration, now - within)
    _require_renewable(session, policy, which)
    found = rows.choose(session, which, limit=limit + 1)
    chosen = found[:limit]
    busiest = busiest_minute([one.planned_at for one in chosen], within=within, now=now)
    load = SweepLoad(len(chosen), within, limit_per_minute, busiest)
    ids = [one.connection_ref for one in chosen]
    return SweepPreview(which, ids, len(found) > limit, rows.left_alone(session, which, at_most=MOST), load)


def sweep(
    database: Database, found: SweepPreview, *, actor: str, clock: Callable[[], datetime]
) -> Generator[list[UUID], None, None]:
    """Plan the renewals, spread evenly over the span from now on. Yields the planned ones, chunk by chunk.

    A sweep that is repeated within its span leaves those alone that it has planned before.
    """
    which, load, begins = found.which, found.load, clock()
    places = {ref: place for place, ref in enumerate(found.ids)}

    def take(session: Session, ids: Sequence[UUID], now: datetime) -> list[UUID]:
        slots = {ref: turn(places[ref], len(places), begins=begins, within=load.within) for ref in ids}
        return rows.plan(session, slots, which, now=now)

    asked = {"within_seconds": round(load.within.total_seconds()), "more": found.more}
    subject = f"{which.environment}/{which.integration}"
    return in_chunks(database, found.ids, take, Audited(actor, "refreshes.swept", subject, asked), clock=clock)


def _require_renewable(session: Session, policy: Policy, which: SweptIntegration) -> None:
    shown = f"{which.environment}/{which.integration}"
    provider = rows.provider_of(session, which)
    if provider is None:
        raise NotFound("integration with connections", shown)
    wanted = policy.refresh_of(which.environment, which.integration, provider[0])
    if wanted is None:
        raise Conflict(f"the connections of {shown} are not refreshed: its environment has no API key, or its policy")
    if wanted.renews is Renewal.NEVER:
        raise Conflict(f"the provider of {shown} renews no tokens")
    if refresh_pauses.find(session, IntegrationKey(which.environment, which.integration)) is not None:
        raise Conflict(f"the refreshes of {shown} are paused: resume them first")
