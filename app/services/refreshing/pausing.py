"""Pauses of integrations by operators, and the release of the plans that any pause held.

Opens short transactions, none while Nango is asked.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app.db import audit
from app.db import refresh_pauses as rows
from app.db.engine import Database
from app.domain.refreshing import outages, slots
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.outages import Pause, PauseCause
from app.errors import Conflict, InvalidInput, NotFound
from app.telemetry import REFRESH_PAUSES, get_logger

LONGEST_REASON: Final = 500  # characters
MOST_COUNTED: Final = 100_000  # held plans; more are spread over the longest time anyway

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Resumed:
    """The end of a pause: its cause, and how many plans it held, which become due over `over_seconds`."""

    cause: PauseCause
    released: int
    over_seconds: float


def pause(
    database: Database, environment: str, integration: str, *, actor: str, reason: str | None = None, now: datetime
) -> None:
    """Pause the planned refreshes of an integration, until it is resumed. A pause for an outage becomes this one.

    Raises InvalidInput for a reason that is too long, NotFound where the integration has no connection here, Conflict
    where it is paused already.
    """
    key, reason = IntegrationKey(environment, integration), (reason or "").strip() or None
    if reason is not None and len(reason) > LONGEST_REASON:
        raise InvalidInput(f"the reason is longer than {LONGEST_REASON} characters")
    with database.write() as session:
        if not rows.has_connections(session, key):
            raise NotFound("integration with connections", shown(key))
        begun = rows.begin(session, key, Pause(cause=PauseCause.OPERATOR, paused_at=now), actor=actor, reason=reason)
        if not begun:
            row = rows.find(session, key, lock=True)
            if row is None or row.cause == PauseCause.OPERATOR:
                since = f" since {row.paused_at:%Y-%m-%d %H:%M} UTC by {row.actor}" if row else ""
                raise Conflict(f"the refreshes of {shown(key)} are paused already{since}")
            rows.take_over(session, row, actor=actor, reason=reason)
        detail = {"reason": reason} if reason else {}
        audit.record(session, actor=actor, action="refreshes.paused", subject=shown(key), now=now, detail=detail)
    note(key, PauseCause.OPERATOR, "begun")


def resume(database: Database, environment: str, integration: str, *, actor: str, now: datetime) -> Resumed:
    """End a pause, of either cause. The plans that it held become due again, spread over minutes.

    Raises NotFound where the integration is not paused.
    """
    key = IntegrationKey(environment, integration)
    with database.write() as session:
        row = rows.find(session, key, lock=True)
        if row is None:
            raise NotFound("paused integration", shown(key))
        cause = PauseCause(row.cause)
        rows.end(session, key, before=now)
        audit.record(
            session, actor=actor, action="refreshes.resumed", subject=shown(key), now=now, detail={"cause": cause}
        )
    released, over = release(database, key, now=now)
    note(key, cause, "ended", released=released)
    return Resumed(cause, released, over)


def release(database: Database, key: IntegrationKey, *, now: datetime) -> tuple[int, float]:
    """After the end of a pause, let the held plans become due, in short transactions.

    Where that is cut short, the rest are due within the hour. Returns their count, and the seconds over which they are
    spread.
    """
    with database.read() as session:
        over = outages.release_over(rows.count_held(session, key, at_most=MOST_COUNTED))
    released, after = 0, None
    while True:
        with database.write() as session:
            plans = rows.held(session, key, after=after)
            rows.release(session, [(plan, now + over * turn_of(plan.slot, plan.connection_ref.hex)) for plan in plans])
        released += len(plans)
        if len(plans) < rows.CHUNK:
            return released, over.total_seconds()
        after = plans[-1].connection_id


def turn_of(slot: int | None, identity: str) -> float:
    """Not the share by which plans around one expiry are spread: these would meet the same neighbours again."""
    return slots.other_share(slot, identity, "pause")


def note(key: IntegrationKey, cause: PauseCause, change: str, **facts: object) -> None:
    """Count and log the begin or the end of a pause."""
    REFRESH_PAUSES.labels(cause, change).inc()
    named = {"environment": key.environment, "integration": key.integration}
    log.warning("refreshes_pause", **named, cause=cause, change=change, **facts)


def shown(key: IntegrationKey) -> str:
    """The subject of audit entries."""
    return f"{key.environment}/{key.integration}"
