"""Gauges of refreshes for `/metrics`, read from the database as they are asked for."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import Database
from app.db.read import refresh_health
from app.db.read.refresh_health import LateGroup
from app.services.policy import Policy
from app.services.refreshing.lateness import lateness
from app.telemetry import (
    REFRESH_PLANNED,
    REFRESH_RESULTS,
    REFRESH_TICK,
    REFRESHES_OVERDUE,
    REFRESHES_PAUSED,
    TOKENS_LAPSED,
)

MOST: Final = 200  # integrations of one gauge, the most overdue first
_BY_INTEGRATION: Final = (REFRESH_PLANNED, REFRESH_RESULTS, REFRESHES_OVERDUE, TOKENS_LAPSED, REFRESHES_PAUSED)


@dataclass(frozen=True, slots=True)
class RefreshGauges:
    """Sets the gauges. Where the database does not answer they have no value."""

    database: Database
    policy: Policy
    clock: Callable[[], datetime]

    def update(self) -> str:
        """`ok`, or `unreachable` without the database."""
        now = self.clock()
        try:
            with self.database.read() as session:
                found = lateness(session, self.policy, now=now)
                results = refresh_health.results(session, now=now, limit=MOST)
        except SQLAlchemyError:
            self.forget()
            return "unreachable"
        self.forget()
        _count(REFRESHES_OVERDUE, found.overdue)
        _count(TOKENS_LAPSED, found.lapsed)
        for group in reversed(found.overdue[:MOST]):  # the most overdue of an integration's groups is set last
            REFRESH_PLANNED.labels(group.environment, group.integration).set(group.since.timestamp())
        for names in found.paused[:MOST]:
            REFRESHES_PAUSED.labels(*names).set(1)
        for environment, integration, renewed, failed in results:
            REFRESH_RESULTS.labels(environment, integration, "renewed").set(renewed)
            REFRESH_RESULTS.labels(environment, integration, "failed").set(failed)
        REFRESH_TICK.set(found.tick.timestamp() if found.tick else math.nan)
        return "ok"

    @staticmethod
    def forget() -> None:
        """Leave the gauges without values."""
        for gauge in _BY_INTEGRATION:
            gauge.clear()
        REFRESH_TICK.set(math.nan)


def _count(gauge: Gauge, groups: Sequence[LateGroup]) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for group in groups:
        counts[group.environment, group.integration] += group.count
    for names, count in list(counts.items())[:MOST]:
        gauge.labels(*names).set(count)
