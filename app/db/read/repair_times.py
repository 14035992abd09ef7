"""Times from the failure of a connection to its repair by the end user, by integration."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.models import Repair
from app.db.read.figures import AT_MOST
from app.domain.repairs import REPAIRED, percentile
from app.ids import first_id


@dataclass(frozen=True, slots=True)
class RepairTimes:
    """Cases of one integration that were opened since a time.

    repaired: closed by a re-authorization or a recovery. p50, p90: from the failure to the repair, of these. open:
    cases that wait now, since `oldest_open_at` at the longest. deleted: connections that were deleted instead.
    """

    environment: str
    integration: str
    repaired: int
    open: int
    deleted: int
    p50: timedelta | None
    p90: timedelta | None
    oldest_open_at: datetime | None

    def shown(self) -> dict[str, Any]:
        """As a JSON object, with spans in seconds and times in ISO 8601."""
        return {
            "environment": self.environment,
            "integration": self.integration,
            "repaired": self.repaired,
            "open": self.open,
            "deleted": self.deleted,
            "p50_seconds": None if self.p50 is None else round(self.p50.total_seconds()),
            "p90_seconds": None if self.p90 is None else round(self.p90.total_seconds()),
            "oldest_open_at": self.oldest_open_at.isoformat() if self.oldest_open_at else None,
        }


def by_integration(session: Session, *, since: datetime, environment: str | None = None) -> list[RepairTimes]:
    """The times of each integration with a case since then, by the newest AT_MOST cases."""
    wanted = (
        select(
            Repair.environment,
            Repair.integration,
            Repair.failing_since,
            Repair.opened_at,
            Repair.closed_at,
            Repair.closed_by,
        )
        .where(Repair.id >= first_id(since))
        .order_by(Repair.id.desc())
        .limit(AT_MOST)
    )
    if environment is not None:
        wanted = wanted.where(Repair.environment == environment)
    grouped = defaultdict[tuple[str, str], list[Any]](list)
    for row in session.execute(wanted):
        grouped[row.environment, row.integration].append(row)
    return [_times(*key, rows) for key, rows in sorted(grouped.items())]


def _times(environment: str, integration: str, rows: list[Any]) -> RepairTimes:
    spans = sorted(row.closed_at - row.failing_since for row in rows if row.closed_by in REPAIRED)
    waiting = [row.opened_at for row in rows if row.closed_at is None]
    return RepairTimes(
        environment,
        integration,
        repaired=len(spans),
        open=len(waiting),
        deleted=sum(row.closed_by == "deleted" for row in rows),
        p50=percentile(spans, 0.5),
        p90=percentile(spans, 0.9),
        oldest_open_at=min(waiting, default=None),
    )
