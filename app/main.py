"""The web application: `create_app(settings)` builds it, its lifespan starts and ends what it needs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.broker import Broker
from app.clock import utc_now
from app.db.engine import connect
from app.db.schema import require_current
from app.settings import Settings
from app.telemetry import get_logger
from app.web import console
from app.web.group_commit import GroupCommit
from app.web.health import Health
from app.web.problems import problem
from app.web.webhooks import WebhookEndpoint

log = get_logger(__name__)


def create_app(settings: Settings) -> Starlette:
    """The whole web side for these settings. Nothing is connected before the lifespan starts."""
    database = connect(settings.database)
    broker = Broker.at("internal", settings.broker)
    store = GroupCommit(database, broker, timedelta(seconds=settings.dedupe_window_seconds), utc_now)
    webhooks = WebhookEndpoint(settings.environments, store, settings.body_limit_bytes, utc_now)
    health = Health(database, broker)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        require_current(database)
        store.start()
        log.info("web_started", environments=sorted(settings.environments), database=database.engine.dialect.name)
        try:
            yield
        finally:
            await store.stop()
            broker.close()
            database.close()

    app = Starlette(
        routes=[
            Route("/webhooks/nango", webhooks),
            Route("/webhooks/nango/", webhooks),
            Route("/webhooks/nango/{environment}", webhooks),
            Route("/webhooks/nango/{environment}/", webhooks),
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", health.metrics),
            Route("/", console.page),
            Route("/console", console.page),
            Mount("/static", StaticFiles(directory=str(files("app.web") / "static"))),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _fault},
        lifespan=lifespan,
    )
    # Nango follows a redirect with a GET and never retries one (CONTRACT 1.6): a slash too many must not cause it.
    app.router.redirect_slashes = False
    return app


async def _http_problem(_request: Request, raised: Exception) -> Response:
    assert isinstance(raised, HTTPException)  # noqa: S101 - Starlette calls it for this class only
    detail = "There is nothing here of that path and method."
    return problem(raised.status_code, raised.detail, detail, headers=raised.headers)


async def _fault(_request: Request, raised: Exception) -> Response:
    log.error("fault", exc_info=raised)
    return problem(500, "A fault of ours", "It is logged. Try again; if it stays, look at the log of the web process.")
