"""Statements on token refreshes, planned and manual."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Select, Update, bindparam, case, delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db import connections as connection_rows
from app.db.connections import ConnectionState
from app.db.models import Connection, Refresh
from app.domain.refreshing.facts import ClaimedRefresh, RefreshFacts
from app.domain.refreshing.plan import Keeps, Plan, urgent_at
from app.domain.states import ConnectionStatus, RefreshOutcome
from app.ids import first_id, new_id

_refreshes: Final = bulk.table(Refresh)
_connections: Final = bulk.table(Connection)
_FACTS: Final = tuple(field.name for field in fields(RefreshFacts))


def columns_of(plan: Plan) -> bulk.Row:
    """The columns of a refresh that hold its plan."""
    return {
        "refresh_at": plan.due_at,
        "next_at": plan.due_at,
        "deadline_at": plan.deadline_at,
        "keeps": plan.keeps,
        "urgent_at": urgent_at(plan.due_at, plan.deadline_at, plan.keeps),
        "forced": plan.forced,
        "reason": plan.reason,
    }


def plan(
    session: Session, plans: Mapping[UUID, Plan], *, now: datetime, failures: Mapping[UUID, int] | None = None
) -> None:
    """Open plans, by connection; the caller has closed earlier ones: the schema allows one open plan per connection.

    failures: in a row before the plan, by connection; none where it is left out.
    """
    counted = failures or {}
    rows = [
        {
            "id": new_id(),
            "connection_ref": connection_ref,
            **columns_of(plan),
            "attempts": 0,
            "failures": counted.get(connection_ref, 0),
            "created_at": now,
        }
        for connection_ref, plan in plans.items()
    ]
    bulk.insert(session, Refresh, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualRefreshRow:
    """A manual refresh with its result."""

    connection_ref: UUID
    requested_by: str
    forced: bool
    reason: str
    asked_at: datetime
    answered_at: datetime | None
    outcome: RefreshOutcome
    error: str | None
    previous_expires_at: datetime | None
    expires_at: datetime | None
    previous_grant_expires_at: datetime | None
    grant_expires_at: datetime | None


def add_manual(session: Session, refresh: ManualRefreshRow, *, now: datetime) -> None:
    """Add a manual refresh to the connection's history."""
    row = {field.name: getattr(refresh, field.name) for field in fields(refresh)}
    began = dict.fromkeys(("refresh_at", "next_at", "created_at"), refresh.asked_at)
    bulk.insert(session, Refresh, [{"id": new_id(), **row, **began, "attempts": 1, "failures": 0, "finished_at": now}])


def open_plan(session: Session, connection_ref: UUID, *, lock: bool = False) -> Refresh | None:
    """The connection's open plan, or None. With `lock`, after the caller locked the connection."""
    plan = select(Refresh).where(Refresh.connection_ref == connection_ref, Refresh.finished_at.is_(None))
    return session.scalar(plan.with_for_update() if lock else plan)


def supersede(session: Session, connection_refs: Collection[UUID], *, now: datetime) -> None:
    """Close the open plans of these connections as superseded."""
    if connection_refs:
        session.execute(
            update(_refreshes)
            .where(bulk.among(bulk.dialect(session), _refreshes.c.connection_ref))
            .where(_refreshes.c.finished_at.is_(None))
            .values(finished_at=now, outcome=RefreshOutcome.SUPERSEDED),
            bulk.keys(connection_refs),
        )


def claim(session: Session, *, limit: int, now: datetime, lease: timedelta) -> list[ClaimedRefresh]:
    """Claim up to `limit` due plans of connections that are not deleted: a lease, and one attempt more.

    First come those that are urgent, in the order of `urgent_at`, then others in the order of `next_at`. Each is a span
    of an index from its beginning: however many rows are due, no more are read than are claimed.
    """
    given = {"now": now}
    rows = list(session.execute(_urgent(), given | {"most": limit}))
    if len(rows) < limit:
        rows += session.execute(_others(), given | {"most": limit - len(rows)})
    if rows:
        session.execute(_lease(bulk.dialect(session)), {"leased": now + lease} | bulk.keys([row[0] for row in rows]))
    return [_claimed(row) for row in rows]


def hold(
    session: Session, held: Sequence[tuple[ClaimedRefresh, datetime]], *, outcome: RefreshOutcome, error: str
) -> None:
    """Let these plans, which a claim of this transaction has taken, wait until then. The claim does not count."""
    changes = [
        {
            "id": plan.id,
            "next_at": until,
            "urgent_at": urgent_at(until, plan.deadline_at, plan.keeps),
            "attempts": plan.attempts - 1,
            "outcome": outcome,
            "error": error,
        }
        for plan, until in held
    ]
    bulk.update(session, Refresh, changes)


class LockedPlan(Struct, frozen=True):
    """An open plan."""

    id: UUID
    connection_ref: UUID
    attempts: int
    deadline_at: datetime | None
    keeps: str | None


def lock(session: Session, claimed: Sequence[ClaimedRefresh]) -> list[tuple[ClaimedRefresh, ConnectionState]]:
    """Lock the claimed plans and their connections, the connections first as everywhere.

    Those that were superseded are left out, and those that were claimed anew, since their lease had ended.
    """
    connections = connection_rows.lock_by_ids(session, [one.connection_ref for one in claimed])
    chosen = select(*bulk.columns(Refresh, LockedPlan)).where(bulk.among(bulk.dialect(session), _refreshes.c.id))
    statement = chosen.where(_refreshes.c.finished_at.is_(None)).order_by(_refreshes.c.id).with_for_update()
    found = bulk.records(session, LockedPlan, statement, bulk.keys([one.id for one in claimed]))
    attempts = {row.id: row.attempts for row in found}
    return [
        (one, connections[one.connection_ref])
        for one in claimed
        if attempts.get(one.id) == one.attempts and one.connection_ref in connections
    ]


def write(session: Session, changes: Sequence[bulk.Row]) -> None:
    """Write the changed columns of locked plans."""
    bulk.update(session, Refresh, changes)


def next_slots(session: Session, count: int) -> list[int]:
    """The next numbers of connections. Numbers of transactions that were rolled back are left out."""
    if bulk.dialect(session) == "postgresql":
        drawn = text("SELECT nextval('connection_slots') FROM generate_series(1, :count)")
        return list(session.scalars(drawn, {"count": count}))
    # SQLite has one writing transaction at a time.
    last = session.scalar(select(func.max(Connection.slot)).where(Connection.slot.is_not(None))) or 0
    return list(range(last + 1, last + 1 + count))


def count_due(session: Session, *, now: datetime, at_most: int) -> int:
    """The count of due plans, `at_most`."""
    due = select(Refresh.id).where(Refresh.finished_at.is_(None), Refresh.next_at <= now).limit(at_most)
    return session.scalar(select(func.count()).select_from(due.subquery())) or 0


@cache
def _due() -> Select[Any]:
    facts = [_connections.c[name] for name in _FACTS]
    columns = (*(_refreshes.c[name] for name in _PLANNED), *(_connections.c[name] for name in _NAMES), *facts)
    joined = select(*columns).join(_connections, _connections.c.id == _refreshes.c.connection_ref)
    return joined.where(
        _refreshes.c.finished_at.is_(None),
        _refreshes.c.next_at <= bindparam("now"),
        _connections.c.status != ConnectionStatus.DELETED,
    ).with_for_update(of=_refreshes, skip_locked=True)


@cache
def _urgent() -> Select[Any]:
    at = _refreshes.c.urgent_at
    return _due().where(at.is_not(None), at <= bindparam("now")).order_by(at).limit(bindparam("most"))


@cache
def _others() -> Select[Any]:
    at = _refreshes.c.urgent_at
    waiting = _due().where(or_(at.is_(None), at > bindparam("now")))
    return waiting.order_by(_refreshes.c.next_at).limit(bindparam("most"))


@cache
def _lease(dialect: str) -> Update:
    """A lease, after which the row is urgent no earlier than it is due (`app.domain.refreshing.plan.urgent_at`)."""
    urgent, leased = _refreshes.c.urgent_at, bindparam("leased", type_=_refreshes.c.next_at.type)
    later = func.greatest(urgent, leased) if dialect == "postgresql" else func.max(urgent, leased)
    changed = update(_refreshes).where(bulk.among(dialect, _refreshes.c.id))
    return changed.values(
        attempts=_refreshes.c.attempts + 1,
        next_at=leased,
        urgent_at=case((urgent.is_not(None), later)),
        outcome=None,  # of an earlier try, as its error
        error=None,
    )


_PLANNED: Final = (
    "id", "connection_ref", "refresh_at", "forced", "attempts", "failures", "deadline_at", "keeps", "outcome"
)  # fmt: skip
_NAMES: Final = ("environment", "integration", "connection_id", "provider")
_KEEPS: Final = {str(keeps): keeps for keeps in Keeps}


def _claimed(row: Any) -> ClaimedRefresh:
    """A row of `_due`: the columns of _PLANNED, _NAMES and RefreshFacts, one after the other."""
    refresh_id, connection_ref, refresh_at, forced, attempts, failures, deadline_at, keeps, outcome = row[:9]
    environment, integration, connection_id, provider = row[9:13]
    return ClaimedRefresh(
        id=refresh_id,
        connection_ref=connection_ref,
        environment=environment,
        integration=integration,
        connection_id=connection_id,
        provider=provider,
        refresh_at=refresh_at,
        is_forced=forced,
        attempts=attempts + 1,
        failures=failures,
        deadline_at=deadline_at,
        keeps=_KEEPS.get(keeps),
        outcome=outcome,
        facts=RefreshFacts(*row[13:]),
    )


def prune(session: Session, *, since: datetime, before: datetime, limit: int) -> int:
    """Delete up to `limit` refreshes that ended within this time, the oldest first. Returns their number.

    Those that Nango had given up stay (`prune_deaths`).
    """
    gone = session.scalars(_old(), {"since": since, "before": before, "most": limit}).all()
    session.execute(delete(_refreshes).where(bulk.among(bulk.dialect(session), _refreshes.c.id)), bulk.keys(gone))
    return len(gone)


@cache
def _old() -> Select[Any]:
    ended = _refreshes.c.finished_at >= bindparam("since"), _refreshes.c.finished_at < bindparam("before")
    others = _refreshes.c.outcome != RefreshOutcome.EXHAUSTED
    chosen = select(_refreshes.c.id).where(*ended, others).order_by(_refreshes.c.finished_at)
    return chosen.limit(bindparam("most"))


def prune_deaths(session: Session, *, before: datetime, limit: int) -> int:
    """Delete up to `limit` refreshes that Nango had given up, and that were made before. Returns their number."""
    # A literal, not a parameter: else the planner cannot use the partial index.
    dead = text("outcome = 'exhausted'"), _refreshes.c.finished_at.is_not(None), _refreshes.c.id < first_id(before)
    gone = session.scalars(select(_refreshes.c.id).where(*dead).order_by(_refreshes.c.id).limit(limit)).all()
    session.execute(delete(_refreshes).where(bulk.among(bulk.dialect(session), _refreshes.c.id)), bulk.keys(gone))
    return len(gone)


def is_renewed_since(session: Session, connection_ref: UUID, since: datetime) -> bool:
    """Whether the connection's history has a renewal that ended then or later."""
    renewed = (RefreshOutcome.RENEWED, RefreshOutcome.FIRST_SEEN)
    mine = (Refresh.connection_ref == connection_ref, Refresh.finished_at.is_not(None))
    found = select(Refresh.id).where(*mine, Refresh.finished_at >= since, Refresh.outcome.in_(renewed)).limit(1)
    return session.scalar(found) is not None
