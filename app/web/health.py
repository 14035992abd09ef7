"""`/healthz`: the process lives. `/readyz`: it can do its work. `/metrics`: for Prometheus, from loopback only."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.broker import Broker
from app.db.engine import Database
from app.db.schema import require_current
from app.errors import BrokerUnavailable, DatabaseNotMigrated
from app.web.problems import problem


@dataclass(frozen=True, slots=True)
class Health:
    """The three endpoints; none of them needs a token."""

    database: Database
    broker: Broker

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, _request: Request) -> Response:
        """200 when database, schema and broker are there; otherwise 503. Webhooks are stored without the broker."""
        database, broker = await asyncio.gather(
            asyncio.to_thread(self._check_database), asyncio.to_thread(self._check_broker)
        )
        ready = database == "ok" and broker == "ok"
        return JSONResponse({"ready": ready, "database": database, "broker": broker}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        proxied = "forwarded" in request.headers or "x-forwarded-for" in request.headers
        if proxied or request.client is None or request.client.host not in {"127.0.0.1", "::1"}:
            return problem(403, "Not from here", "Metrics are served to this machine only.")
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    def _check_database(self) -> str:
        return _word(lambda: require_current(self.database))

    def _check_broker(self) -> str:
        return _word(self.broker.ping)


def _word(check: Callable[[], None]) -> str:
    try:
        check()
    except DatabaseNotMigrated:
        return "not migrated"
    except (SQLAlchemyError, BrokerUnavailable):
        return "unreachable"
    return "ok"
