"""The same simulation through the real database: its decisions are to be those of the plans in memory."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import func, select

from app.config.nango_environment import Environment, SigningKeys
from app.db import bulk, refreshes
from app.db import connections as connection_rows
from app.db.engine import Database, connect
from app.db.migrate import upgrade
from app.db.models import Connection, Refresh
from app.domain.states import ConnectionStatus
from app.services.policy import Policy
from app.services.refreshing.outage_watch import OutageWatch
from app.services.refreshing.refresh_store import DatabaseStore
from app.services.refreshing.refresher import AnsweredRefresh, Conclude
from app.services.routing.cache import RouteCache
from bench.refresh_lives import policies
from bench.refresh_memory import without_past_error
from bench.refresh_nango import Decision, SimulatedNango
from bench.refresh_simulation import AUTH_MODE, Clock, Simulation, first
from bench.refresh_world import SimulatedConnection, SimulatedWorld
from tests.servers import PostgresServer, in_memory

KINDS: Final = ("SQLite", "PostgreSQL")


@contextmanager
def opened(kind: str) -> Iterator[str]:
    """The URL of an empty database of this kind, which is removed afterwards.

    It is in memory where it can be: no decision depends on a disk, which takes most of the time otherwise.
    """
    if kind == "SQLite":
        with TemporaryDirectory(prefix="waylink-bench-", dir=in_memory()) as folder:
            yield f"sqlite:///{Path(folder) / 'refresh.db'}"
        return
    with closing(PostgresServer()) as server:
        server.start()
        yield server.create_database()


def decisions(world: SimulatedWorld, *, per_minute: int, url: str) -> list[Decision]:
    """The decisions of a run on this database, which is empty."""
    database = connect(url)
    try:
        upgrade(database)
        _fill(database, world)
        known = policies(world.cohorts)
        environments = {"default": Environment("default", "http://127.0.0.1:1", "bench", SigningKeys(()))}
        clock = Clock()
        simulation = Simulation(
            world,
            clock,
            SimulatedNango(world, clock, per_minute),
            _Store(database, Policy(environments, refresh=known), RouteCache(), OutageWatch(database)),
            lambda: _next_at(database),
            decisions=[],
        )
        simulation.run(world.ends_at)
        return simulation.decisions or []
    finally:
        database.close()


class _Store(DatabaseStore):
    """The store, with errors cleared that are over, as the events of recoveries do it when they are processed."""

    def record(self, answered: Sequence[AnsweredRefresh], conclude: Conclude, *, now: datetime) -> None:
        super().record(answered, conclude, now=now)
        failing = [one for one in answered if one.claimed.facts.last_error_type is not None]
        if not failing:
            return
        with self.database.write() as session:
            for claimed, answer in failing:
                connection = connection_rows.lock_by_ids(session, [claimed.connection_ref])[claimed.connection_ref]
                facts = connection.refresh_facts
                if (cleared := without_past_error(facts, answer, now=now)) != facts:
                    connection.take_over(cleared)
                    connection_rows.update(session, [connection])


def _fill(database: Database, world: SimulatedWorld) -> None:
    known = policies(world.cohorts)
    with database.write() as session:
        bulk.insert(session, Connection, [_row(connection) for connection in world.connections.values()])
        for connection in world.connections.values():
            if (plan := first(connection, known)) is not None:
                refreshes.plan(session, {connection.ref: plan}, now=connection.created_at)


def _row(connection: SimulatedConnection) -> dict[str, Any]:
    """The connection as Waylink stores it once its webhook was processed."""
    at = connection.created_at
    return {
        "id": connection.ref,
        "environment": "default",
        "integration": connection.cohort.name,
        "connection_id": connection.name,
        "nango_id": connection.number,
        "provider": connection.cohort.provider,
        "auth_mode": AUTH_MODE,
        "status": ConnectionStatus.ACTIVE,
        "tags": {},
        "tags_disagree": False,
        "absences": 0,
        "authorized_at": at,
        "renewed_at": at,
        "created_at": at,
        "updated_at": at,
    }


def _next_at(database: Database) -> datetime | None:
    with database.read() as session:
        return session.scalar(select(func.min(Refresh.next_at)).where(Refresh.finished_at.is_(None)))
