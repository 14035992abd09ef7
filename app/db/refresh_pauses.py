"""Statements on paused integrations, on the plans that a pause holds, and on the recent results that begin one."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db.models import Connection, Refresh, RefreshPause, RefreshWindow
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.outages import Pause, PauseCause, Share, Tally, Window
from app.domain.refreshing.plan import urgent_at
from app.domain.states import RefreshOutcome

CHUNK: Final = 500  # plans of one transaction


class HeldPlan(NamedTuple):
    """A plan that waits for the end of a pause, with the connection whose turn it is."""

    refresh_id: UUID
    connection_ref: UUID
    slot: int | None
    connection_id: str
    deadline_at: datetime | None
    keeps: str | None


def current(session: Session) -> dict[IntegrationKey, Pause]:
    """All pauses. There are as many as paused integrations."""
    return {key_of(row): _pause(row) for row in session.scalars(select(RefreshPause))}


def find(session: Session, key: IntegrationKey, *, lock: bool = False) -> RefreshPause | None:
    """The pause of an integration, or None."""
    found = select(RefreshPause).where(*_is(RefreshPause, key)).execution_options(populate_existing=True)
    return session.scalar(found.with_for_update() if lock else found)


def begin(
    session: Session,
    key: IntegrationKey,
    pause: Pause,
    *,
    seen: Share | None = None,
    actor: str | None = None,
    reason: str | None = None,
) -> bool:
    """Add the pause. False where the integration is paused already."""
    failed, of = (seen.failed, seen.of) if seen is not None else (None, None)
    row = {
        **key._asdict(),
        **asdict(pause),
        "failed": failed,
        "renewed_or_failed": of,
        "actor": actor,
        "reason": reason,
    }
    return bulk.insert(session, RefreshPause, [row], skip_existing=True) == 1


def take_over(session: Session, row: RefreshPause, *, actor: str, reason: str | None) -> None:
    """Turn the pause for an outage, which is locked, into an operator's."""
    row.cause, row.actor, row.reason, row.probe_at = PauseCause.OPERATOR, actor, reason, None
    session.flush()


def begin_probes(session: Session, key: IntegrationKey, after: Pause, *, now: datetime) -> bool:
    """Begin a round of probes. False where another process has begun it, or the pause is over."""
    due = update(RefreshPause).where(*_is(RefreshPause, key), RefreshPause.probe_at <= now)
    begun = due.values(probes=after.probes, probe_at=after.probe_at).returning(RefreshPause.environment)
    return session.execute(begun.execution_options(synchronize_session=False)).first() is not None


def end(session: Session, key: IntegrationKey, *, cause: PauseCause | None = None, before: datetime) -> bool:
    """End the pause that began before, and forget what was counted. False where there is none."""
    over = delete(RefreshPause).where(*_is(RefreshPause, key), RefreshPause.paused_at <= before)
    if cause is not None:
        over = over.where(RefreshPause.cause == cause)
    ended = session.execute(over.returning(RefreshPause.environment).execution_options(synchronize_session=False))
    if ended.first() is None:
        return False
    forgotten = delete(RefreshWindow).where(*_is(RefreshWindow, key))
    session.execute(forgotten.execution_options(synchronize_session=False))
    return True


def lock_window(session: Session, key: IntegrationKey, *, now: datetime) -> Window:
    """The integration's window, locked; an empty one where there was none."""
    empty = {"renewed": 0, "failed": 0, "renewed_before": 0, "failed_before": 0, "began_at": now}
    bulk.insert(session, RefreshWindow, [{**key._asdict(), **empty}], skip_existing=True)
    statement = select(RefreshWindow).where(*_is(RefreshWindow, key)).with_for_update()
    row = session.scalars(statement.execution_options(populate_existing=True)).one()
    return Window(row.began_at, Tally(row.renewed, row.failed), Tally(row.renewed_before, row.failed_before))


def save_window(session: Session, key: IntegrationKey, window: Window) -> None:
    """Write back a locked window."""
    session.execute(
        update(RefreshWindow)
        .where(*_is(RefreshWindow, key))
        .values(
            began_at=window.began_at,
            renewed=window.present.renewed,
            failed=window.present.failed,
            renewed_before=window.former.renewed,
            failed_before=window.former.failed,
        )
        .execution_options(synchronize_session=False)
    )


def held(session: Session, key: IntegrationKey, *, after: str | None = None, limit: int = CHUNK) -> list[HeldPlan]:
    """Plans that a pause holds, by connection id, from that one on."""
    statement = (
        select(
            Refresh.id,
            Connection.id,
            Connection.slot,
            Connection.connection_id,
            Refresh.deadline_at,
            Refresh.keeps,
        )
        .join(Refresh, Refresh.connection_ref == Connection.id)
        .where(*_is(Connection, key), *_HELD)
        .order_by(Connection.connection_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(Connection.connection_id > after)
    return [HeldPlan(*row) for row in session.execute(statement)]


def count_held(session: Session, key: IntegrationKey, *, at_most: int) -> int:
    """The count of plans that a pause holds, `at_most`."""
    ids = (
        select(Refresh.id)
        .join(Connection, Connection.id == Refresh.connection_ref)
        .where(*_is(Connection, key), *_HELD)
        .limit(at_most)
    )
    return session.scalar(select(func.count()).select_from(ids.subquery())) or 0


def release(session: Session, due: Sequence[tuple[HeldPlan, datetime]]) -> None:
    """Let held plans be due then; their failures during the outage do not count. Plans that ended stay."""
    rows = [
        {
            "id": plan.refresh_id,
            "next_at": at,
            "urgent_at": urgent_at(at, plan.deadline_at, plan.keeps),
            "outcome": None,
            "error": None,
            "failures": 0,
        }
        for plan, at in due
    ]
    bulk.update(session, Refresh, rows, only=f"finished_at IS NULL AND refreshes.outcome IN {_OUTCOMES}")


def has_connections(session: Session, key: IntegrationKey) -> bool:
    """Whether the integration has a connection, deleted ones included."""
    return session.scalar(select(Connection.id).where(*_is(Connection, key)).limit(1)) is not None


def key_of(row: RefreshPause) -> IntegrationKey:
    return IntegrationKey(row.environment, row.integration)


# A plan whose probe failed waits for the same end. The next claim of a plan clears these.
_OUTCOMES: Final = (RefreshOutcome.PAUSED.value, RefreshOutcome.PROVIDER_DOWN.value)
_HELD: Final = (
    Refresh.finished_at.is_(None),
    # As literals, or the partial index of held plans is not used.
    Refresh.outcome.in_(bindparam("held", _OUTCOMES, expanding=True, literal_execute=True)),
)


def _pause(row: RefreshPause) -> Pause:
    return Pause(cause=PauseCause(row.cause), paused_at=row.paused_at, probes=row.probes, probe_at=row.probe_at)


def _is(model: type[RefreshPause] | type[RefreshWindow] | type[Connection], key: IntegrationKey) -> tuple[Any, ...]:
    return model.environment == key.environment, model.integration == key.integration
