"""Statements on the refresh policies that integrations' plans follow, and on the plans that a change moves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from msgspec import Struct
from sqlalchemy import and_, select, update
from sqlalchemy.orm import Session

from app.db import bulk
from app.db import connections as connection_rows
from app.db import refreshes as refresh_rows
from app.db.connections import ConnectionState
from app.db.models import Connection, Refresh, RefreshPolicyState
from app.domain.refreshing.facts import IntegrationKey
from app.domain.refreshing.plan import Plan
from app.domain.states import ConnectionStatus, RefreshOutcome

CHUNK: Final = 200  # connections of one transaction
_connections: Final = bulk.table(Connection)
_refreshes: Final = bulk.table(Refresh)
_PLANNED_FOR: Final = (ConnectionStatus.ACTIVE, ConnectionStatus.NEEDS_RECONNECT)


class IntegrationAt(NamedTuple):
    """An integration with connections, and its provider by one of them."""

    integration: str
    provider: str | None


class PolicyRun(NamedTuple):
    """A policy that an integration's plans do not follow to the last one yet. after: the last one looked at."""

    key: IntegrationKey
    fingerprint: str
    only_missing: bool
    after: str | None


class Looked(NamedTuple):
    """A connection to look at, in the order of Nango's ids. plan_id: of its open plan; None: it has none."""

    ref: UUID
    connection_id: str
    plan_id: UUID | None


class OpenPlanRow(Struct, frozen=True):
    """An open plan, locked."""

    id: UUID
    connection_ref: UUID
    refresh_at: datetime
    next_at: datetime
    deadline_at: datetime | None
    keeps: str | None
    forced: bool
    reason: str
    attempts: int
    failures: int
    created_at: datetime
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The changes of a chunk. planned, moved: plans by connection, and by plan. closed: plans. connections: changed."""

    planned: Mapping[UUID, Plan]
    moved: Mapping[UUID, Plan]
    closed: Collection[UUID]
    connections: Sequence[ConnectionState]


def next_integration(session: Session, environment: str, *, after: str) -> IntegrationAt | None:
    """The next integration of the environment by its name; None: there is none. One step along an index."""
    found = session.execute(
        select(Connection.integration, Connection.provider)
        .where(Connection.environment == environment, Connection.integration > after)
        .order_by(Connection.environment, Connection.integration, Connection.connection_id)
        .limit(1)
    ).first()
    return None if found is None else IntegrationAt(*found)


def provider_of(session: Session, key: IntegrationKey) -> str | None:
    """The integration's provider, by the same connection as `next_integration`."""
    return session.scalar(
        select(Connection.provider)
        .where(Connection.environment == key.environment, Connection.integration == key.integration)
        .order_by(Connection.environment, Connection.integration, Connection.connection_id)
        .limit(1)
    )


def fingerprints(session: Session, environment: str, integrations: Collection[str]) -> dict[str, tuple[str, datetime]]:
    """The policies that these integrations go by, with the start of the newest process that does."""
    rows = session.execute(
        select(RefreshPolicyState.integration, RefreshPolicyState.fingerprint, RefreshPolicyState.process_started_at)
        .where(RefreshPolicyState.environment == environment)
        .where(RefreshPolicyState.integration.in_(integrations))
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def note(session: Session, key: IntegrationKey, fingerprint: str, *, started_at: datetime) -> None:
    """Note the policy of a process that started then, unless a newer process has noted one. Its plans are to follow."""
    statement = bulk.insert_for(session, RefreshPolicyState).values(
        environment=key.environment,
        integration=key.integration,
        fingerprint=fingerprint,
        process_started_at=started_at,
        only_missing=True,
        after=None,
        planned=0,
        moved=0,
        closed=0,
        finished_at=None,
    )
    new, there = statement.excluded, bulk.table(RefreshPolicyState).c
    anew = {name: new[name] for name in ("fingerprint", "process_started_at", "after", "finished_at")}
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["environment", "integration"],
            set_={**anew, "planned": 0, "moved": 0, "closed": 0, "only_missing": False},
            where=and_(there.process_started_at < new.process_started_at, there.fingerprint != new.fingerprint),
        )
    )


def confirm(session: Session, environment: str, integrations: Collection[str], *, started_at: datetime) -> None:
    """Note that a process which started then goes by the noted policies of these integrations, too."""
    of = bulk.table(RefreshPolicyState).c
    session.execute(
        update(bulk.table(RefreshPolicyState))
        .where(of.environment == environment, of.integration.in_(integrations), of.process_started_at < started_at)
        .values(process_started_at=started_at)
    )


def unfinished(session: Session, environments: Collection[str], *, limit: int) -> list[PolicyRun]:
    """Integrations whose plans do not all follow their policy yet."""
    of = RefreshPolicyState
    rows = session.execute(
        select(of.environment, of.integration, of.fingerprint, of.only_missing, of.after)
        .where(of.finished_at.is_(None), of.environment.in_(environments))
        .order_by(of.process_started_at, of.environment, of.integration)
        .limit(limit)
    )
    return [PolicyRun(IntegrationKey(row[0], row[1]), *row[2:]) for row in rows]


def lock_run(session: Session, run: PolicyRun) -> bool:
    """Lock the run. False where another policy has taken its place, or another process went on with it."""
    row = session.get(RefreshPolicyState, tuple(run.key), with_for_update=True)
    return row is not None and (row.fingerprint, row.finished_at, row.after) == (run.fingerprint, None, run.after)


def connections_of(session: Session, run: PolicyRun, *, limit: int) -> list[Looked]:
    """The next connections of the run that may have a plan, in the order of Nango's ids."""
    statement = (
        select(Connection.id, Connection.connection_id, Refresh.id)
        .outerjoin(Refresh, (Refresh.connection_ref == Connection.id) & Refresh.finished_at.is_(None))
        .where(Connection.environment == run.key.environment, Connection.integration == run.key.integration)
        .where(Connection.status.in_(_PLANNED_FOR))
        .order_by(Connection.environment, Connection.integration, Connection.connection_id)
        .limit(limit)
    )
    if run.after is not None:
        statement = statement.where(Connection.connection_id > run.after)
    return [Looked(*row) for row in session.execute(statement)]


def lock(session: Session, refs: Collection[UUID]) -> tuple[dict[UUID, ConnectionState], dict[UUID, OpenPlanRow]]:
    """These connections and, by connection, their open plans, locked: the connections first, as everywhere."""
    locked = connection_rows.lock_by_ids(session, refs)
    mine = bulk.among(bulk.dialect(session), _refreshes.c.connection_ref)
    chosen = select(*bulk.columns(Refresh, OpenPlanRow)).where(mine, _refreshes.c.finished_at.is_(None))
    statement = chosen.order_by(_refreshes.c.id).with_for_update()
    plans = bulk.records(session, OpenPlanRow, statement, bulk.keys(locked)) if locked else []
    return locked, {plan.connection_ref: plan for plan in plans}


def write(session: Session, changes: Changes, *, why_closed: str, now: datetime) -> None:
    """Write the changes of a chunk, whose rows are locked."""
    cleared: dict[str, Any] = {"outcome": None, "error": None}
    moved = [{"id": ref, **refresh_rows.columns_of(plan), **cleared} for ref, plan in changes.moved.items()]
    ended = {"finished_at": now, "outcome": RefreshOutcome.SUPERSEDED, "error": why_closed}
    refresh_rows.write(session, [*moved, *({"id": ref, **ended} for ref in changes.closed)])
    refresh_rows.plan(session, changes.planned, now=now)
    names = ("id", "alive_by", "grant_expires_at", "grant_source", "grant_reason")
    rows = [{name: getattr(connection, name) for name in names} for connection in changes.connections]
    bulk.update(session, Connection, rows)


def count(
    session: Session, run: PolicyRun, changes: Changes, *, after: str | None, finished_at: datetime | None
) -> dict[str, int]:
    """Record how far the run has come. Returns its counts so far."""
    of = bulk.table(RefreshPolicyState).c
    made = {"planned": changes.planned, "moved": changes.moved, "closed": changes.closed}
    found = session.execute(
        update(bulk.table(RefreshPolicyState))
        .where(of.environment == run.key.environment, of.integration == run.key.integration)
        .values(after=after, finished_at=finished_at, **{name: of[name] + len(some) for name, some in made.items()})
        .returning(*(of[name] for name in made))
    ).one()
    return dict(zip(made, found, strict=True))
