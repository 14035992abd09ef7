"""Pauses of integrations: begun by an outage of their provider or by an operator, probed, ended, and their plans
released.

Opens short transactions, none while Nango is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from app.db import audit
from app.db import refresh_pauses as rows
from app.db.engine import Database
from app.db.models import Connection
from app.db.refresh_pauses import IntegrationKey
from app.domain.refreshing import outages, slots
from app.domain.refreshing.facts import ClaimedRefresh
from app.domain.refreshing.outages import Pause, PauseCause, Share, Tally
from app.domain.states import RefreshOutcome
from app.errors import Conflict, InvalidInput, NotFound
from app.telemetry import REFRESH_PAUSES, get_logger

PROVIDER: Final = "provider"  # the actor of what Waylink concludes from a provider's answers
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
            raise NotFound("integration with connections", _shown(key))
        begun = rows.begin(session, key, Pause(cause=PauseCause.OPERATOR, paused_at=now), actor=actor, reason=reason)
        if not begun:
            row = rows.find(session, key, lock=True)
            if row is None or row.cause == PauseCause.OPERATOR:
                since = f" since {row.paused_at:%Y-%m-%d %H:%M} UTC by {row.actor}" if row else ""
                raise Conflict(f"the refreshes of {_shown(key)} are paused already{since}")
            rows.take_over(session, row, actor=actor, reason=reason)
        detail = {"reason": reason} if reason else {}
        audit.record(session, actor=actor, action="refreshes.paused", subject=_shown(key), now=now, detail=detail)
    _note(key, PauseCause.OPERATOR, "begun")


def resume(database: Database, environment: str, integration: str, *, actor: str, now: datetime) -> Resumed:
    """End a pause, of either cause. The plans that it held become due again, spread over minutes.

    Raises NotFound where the integration is not paused.
    """
    key = IntegrationKey(environment, integration)
    with database.write() as session:
        row = rows.find(session, key, lock=True)
        if row is None:
            raise NotFound("paused integration", _shown(key))
        cause = PauseCause(row.cause)
        rows.end(session, key, before=now)
        audit.record(
            session, actor=actor, action="refreshes.resumed", subject=_shown(key), now=now, detail={"cause": cause}
        )
    released, over = _release(database, key, now=now)
    _note(key, cause, "ended", released=released)
    return Resumed(cause, released, over)


def keep(session: Session, taken: Sequence[ClaimedRefresh], *, now: datetime) -> list[ClaimedRefresh]:
    """Of the plans that a claim has taken in this transaction, those to be carried out now.

    Those of paused integrations are held, but for a few where a round of probes is due.
    """
    pauses = rows.current(session) if taken else {}
    kept = [plan for plan in taken if _key(plan) not in pauses]
    for key, pause in pauses.items():
        mine = [plan for plan in taken if _key(plan) == key]
        probes = outages.PROBES if mine and _begins_probes(session, key, pause, now=now) else 0
        kept += mine[:probes]
        rows.hold(session, _held(mine[probes:], pause, now=now), error=_why_held(key, pause))
    rows.begin_held(session, [plan for plan in kept if plan.outcome == RefreshOutcome.PAUSED])
    return kept


def is_paused(session: Session, connection: Connection) -> bool:
    """Whether the connection's integration is paused for an outage."""
    row = rows.find(session, _key(connection))
    return row is not None and row.cause == PauseCause.OUTAGE


def observe(database: Database, seen: Sequence[tuple[Connection, Tally]], *, began_at: datetime, now: datetime) -> None:
    """Count the results of refreshes that began at `began_at`: they may begin or end the pause of an integration."""
    tallies = _summed(seen)
    begun, ended = dict[IntegrationKey, Share](), list[IntegrationKey]()
    if not tallies:
        return
    with database.write() as session:
        for key in sorted(tallies):
            if tallies[key].renewed and rows.end(session, key, cause=PauseCause.OUTAGE, before=began_at):
                ended.append(key)
                _audit(session, key, "refreshes.resumed", {}, now)
                continue
            window = outages.counted(rows.lock_window(session, key, now=now), tallies[key], now=now)
            rows.save_window(session, key, window)
            share = outages.share(window, now=now)
            if share.is_outage and rows.begin(session, key, outages.begun(now=now), seen=share):
                begun[key] = share
                _audit(session, key, "refreshes.paused", _facts(share), now)
    for key, share in begun.items():
        _note(key, PauseCause.OUTAGE, "begun", **_facts(share))
    for key in ended:
        released, _ = _release(database, key, now=now)
        _note(key, PauseCause.OUTAGE, "ended", released=released)


def _release(database: Database, key: IntegrationKey, *, now: datetime) -> tuple[int, float]:
    """Let the held plans become due, in short transactions. Where that is cut short, the rest are due within the hour.

    Returns their count, and the seconds over which they are spread.
    """
    with database.read() as session:
        over = outages.release_over(rows.count_held(session, key, at_most=MOST_COUNTED))
    released, after = 0, None
    while True:
        with database.write() as session:
            plans = rows.held(session, key, after=after)
            rows.release(session, [(plan, now + over * _turn(plan.slot, plan.connection_ref.hex)) for plan in plans])
        released += len(plans)
        if len(plans) < rows.CHUNK:
            return released, over.total_seconds()
        after = plans[-1].connection_id


def _begins_probes(session: Session, key: IntegrationKey, pause: Pause, *, now: datetime) -> bool:
    """Begin a round of probes, where one is due."""
    due = outages.may_probe(pause, now=now)
    return due and rows.begin_probes(session, key, outages.probing(pause, now=now), now=now)


def _held(plans: Sequence[ClaimedRefresh], pause: Pause, *, now: datetime) -> list[tuple[ClaimedRefresh, datetime]]:
    return [
        (plan, outages.held_until(pause, now=now, turn=_turn(plan.facts.slot, plan.connection_ref.hex)))
        for plan in plans
    ]


def _turn(slot: int | None, identity: str) -> float:
    """Not the share by which plans around one expiry are spread: these would meet the same neighbours again."""
    return slots.other_share(slot, identity, "pause")


def _summed(seen: Sequence[tuple[Connection, Tally]]) -> Mapping[IntegrationKey, Tally]:
    tallies: dict[IntegrationKey, Tally] = {}
    for connection, tally in seen:
        if tally:
            key = _key(connection)
            tallies[key] = tallies.get(key, Tally()) + tally
    return tallies


def _audit(session: Session, key: IntegrationKey, action: str, detail: Mapping[str, object], now: datetime) -> None:
    """Record what Waylink concluded from a provider's answers."""
    facts = {"cause": PauseCause.OUTAGE, **detail}
    audit.record(session, actor=PROVIDER, action=action, subject=_shown(key), now=now, detail=facts)


def _note(key: IntegrationKey, cause: PauseCause, change: str, **facts: object) -> None:
    REFRESH_PAUSES.labels(cause, change).inc()
    log.warning(
        "refreshes_pause", environment=key.environment, integration=key.integration, cause=cause, change=change, **facts
    )


def _facts(share: Share) -> dict[str, object]:
    return {"failed": share.failed, "renewed_or_failed": share.of}


def _why_held(key: IntegrationKey, pause: Pause) -> str:
    if pause.cause is PauseCause.OPERATOR:
        return f"refreshes of {_shown(key)} are paused by an operator"
    return f"refreshes of {_shown(key)} are paused: its provider seems to be down"


def _key(connection: Connection | ClaimedRefresh) -> IntegrationKey:
    return IntegrationKey(connection.environment, connection.integration)


def _shown(key: IntegrationKey) -> str:
    return f"{key.environment}/{key.integration}"
