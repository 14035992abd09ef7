"""The next plan of a connection after an answer of Nango, for planned and manual refreshes."""

from datetime import datetime

from app.db.connections import ConnectionState
from app.domain.refreshing.expiring import next_announcement
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.planning import Deadlines, next_plan
from app.domain.refreshing.policy import RefreshPolicy
from app.services.refreshing.announcing import clock_state
from app.services.refreshing.refresh_results import GetResult


def plan_after(
    connection: ConnectionState,
    answer: GetResult,
    policy: RefreshPolicy,
    *,
    now: datetime,
    previous_expires_at: datetime | None,
    failures: int,
    was_forced: bool,
    lapsed: bool,
) -> Plan | None:
    """The next plan. connection: with what the answer showed. failures: in a row, this one included."""
    deadlines = Deadlines(
        grant_at=connection.grant_expires_at,
        renewed_at=connection.renewed_at,
        refreshable=connection.not_refreshable is None,
        warn_at=next_announcement(clock_state(connection), policy, now=now),
    )
    return next_plan(
        now=now,
        outcome=answer.outcome,
        expires_at=answer.expires_at,
        previous_expires_at=previous_expires_at,
        consecutive_failures=failures,
        retry_after=answer.retry_after,
        auth_mode=connection.auth_mode or "",
        identity=connection.id.hex,
        policy=policy,
        was_forced=was_forced,
        lapsed=lapsed,
        slot=connection.slot,
        deadlines=deadlines,
    )
