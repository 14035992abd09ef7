"""`/healthz`: the process runs. `/readyz`: it stores webhooks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.brokers.celery_broker import Broker
from app.db.engine import Database
from app.db.schema_version import require_current, takes_writes
from app.db.storing_troubles import lock_trouble, trouble_here
from app.errors import BrokerUnavailable, DatabaseNotMigrated
from app.outage_causes import NOT_STORING, READ_ONLY, UNREACHABLE, trouble_of_database
from app.web.group_commit import GroupCommit

CHECK_SECONDS: Final = 3.0
_READY: Final = {"ok", "newer"}


@dataclass(frozen=True, slots=True)
class HealthEndpoints:
    """The two endpoints."""

    database: Database
    broker: Broker
    store: GroupCommit
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="health"))
    _checks: dict[str, asyncio.Future[str]] = field(default_factory=dict)

    async def healthz(self, _request: Request) -> Response:
        """503 where a writer does not come back from the database; an event loop that stands still cannot answer."""
        if self.store.stuck:
            return PlainTextResponse("a commit stands still\n", 503)
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """200 when this process stores webhooks and schema and broker are usable, else 503.

        It stores if it has committed in the last seconds, or commits a write that changes nothing now. Webhooks are
        stored without the broker.
        """
        stores, database, broker = await asyncio.gather(
            self.store.prove(within=CHECK_SECONDS),
            self._checked("database", lambda: _database(self.database)),
            self._checked("broker", lambda: _broker(self.broker)),
        )
        if database in _READY and not (stores and self.store.storing):
            database = self.store.proof.trouble or await self._checked("lock", lambda: _lock(self.database))
        ready = database in _READY and broker == "ok"
        return JSONResponse({"ready": ready, "database": database, "broker": broker}, 200 if ready else 503)

    async def _checked(self, what: str, check: Callable[[], str]) -> str:
        """One check at a time, shared by concurrent requests, so that a frozen server holds one thread at most."""
        running = self._checks.get(what)
        if running is None or running.done():
            running = asyncio.get_running_loop().run_in_executor(self._threads, check)
            self._checks[what] = running
        done, _ = await asyncio.wait([running], timeout=CHECK_SECONDS)
        return running.result() if done else UNREACHABLE


def _database(database: Database) -> str:
    try:
        require_current(database)
        with database.read() as session:
            if not takes_writes(session):
                return READ_ONLY
        return trouble_here(database) or "ok"
    except DatabaseNotMigrated as other:
        # During an upgrade the old processes keep serving, on a newer schema.
        return "newer" if other.newer else "not migrated"
    except SQLAlchemyError as failed:
        return trouble_of_database(failed)


def _lock(database: Database) -> str:
    """The name for a write that has not come back in time."""
    return lock_trouble(database) or NOT_STORING


def _broker(broker: Broker) -> str:
    try:
        broker.ping()
    except BrokerUnavailable:
        return UNREACHABLE
    return "ok"
