"""The renewal information of a connection: its window, its planned moment, and why."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.db.models import Connection, Refresh
from app.db.read.connection_listing import shown_clocks
from app.db.read.paused_integrations import why_paused
from app.db.read.refresh_listing import connection_and_plan, next_look
from app.db.read.shown_rows import shown_time
from app.domain.refreshing.plan import Plan
from app.domain.refreshing.renewal import Window, ask_again_in, renewal_window
from app.ids import CONNECTION, show
from app.services.policy import Policy


def renewal(session: Session, connection_ref: UUID, policy: Policy, *, now: datetime) -> dict[str, Any]:
    """The window and moment of the next renewal, with reason and sources. Raises NotFound."""
    connection, plan = connection_and_plan(session, connection_ref)
    look = next_look(connection, plan, now=now)
    if look["id"] is None:
        plan = None
    found = _window(connection, plan, policy) if plan is not None else None
    return {
        "connection": show(CONNECTION, connection_ref),
        "status": connection.status,
        "window": {"begins_at": shown_time(found.begins), "ends_at": shown_time(found.ends)} if found else None,
        "planned_at": shown_time(plan.refresh_at) if plan else None,
        "next_look": look,
        "forced": plan.forced if plan else None,
        "reason": plan.reason if plan else look["why"],
        **shown_clocks(connection),
        "renewed_at": shown_time(connection.renewed_at),
        "paused": why_paused(session, connection.environment, connection.integration),
        "retry_after": round(ask_again_in(plan.next_at if plan else None, now=now).total_seconds()),
    }


def _window(connection: Connection, plan: Refresh, policy: Policy) -> Window:
    """The window of the plan; its moment alone where its integration is not refreshed any more."""
    wanted = policy.refresh_of(connection.environment, connection.integration, connection.provider)
    if wanted is None:
        return Window(plan.refresh_at, plan.refresh_at)
    return renewal_window(
        Plan(plan.refresh_at, forced=plan.forced, reason=plan.reason),
        wanted,
        made_at=plan.created_at,
        expires_at=connection.expires_at,
        grant_at=connection.grant_expires_at,
        renewed_at=connection.renewed_at,
    )
