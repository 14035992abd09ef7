"""The web application: `create_app(settings)` builds it; its lifespan starts and stops its parts."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from app.brokers.celery_broker import Broker
from app.brokers.hints import Hints
from app.clock import utc_now
from app.config.checks import unknown_variables
from app.config.effective import effective
from app.config.settings import Settings
from app.db.engine import connect
from app.db.schema_version import require_current_unless_away
from app.runtime.notifications import notifying, tester_of
from app.runtime.signs_of_life import SignsOfLife
from app.runtime.status_of import look_of, running
from app.runtime.wiring import budget_of, clients_of, definition_context, lives_of, policy_of, provider_of, traces_of
from app.services.events.intake import STATEMENT_SECONDS, writers_for
from app.services.liveness.reporter import Reporter
from app.services.metrics.exposition import Exposition
from app.services.metrics.figures import FigureRecorder
from app.services.metrics.reporting import CountsWriter
from app.services.status.report import LOOK_SECONDS
from app.telemetry import STORING, get_logger
from app.web.announcing import Announcer
from app.web.answering import Answering, pulse_of
from app.web.api.authentication import Authenticator
from app.web.api.endpoint import Context
from app.web.api.registry import ENDPOINTS
from app.web.api.serving import Api
from app.web.bodies import BodyReader
from app.web.browser_sessions import Browsers
from app.web.canaries import Canaries
from app.web.console.registry import PAGES
from app.web.console.serving import Console, ConsoleContext
from app.web.group_commit import GroupCommit
from app.web.health import HealthEndpoints
from app.web.hosts import allowed_hosts
from app.web.ingest_counters import IngestRecord
from app.web.metrics import MetricsEndpoint
from app.web.metrics_server import serving_metrics
from app.web.problems import problem
from app.web.proxies import behind_proxies
from app.web.static_files import VersionedFiles
from app.web.webhooks import PATH, WebhookEndpoint

LOOKS: Final = 2  # connections for them that stay open

log = get_logger(__name__)


class Waylink(Starlette):
    """Starlette, with webhooks dispatched before its middleware and router, which were measured at a tenth of their
    cost.
    """

    def __init__(self, webhooks: WebhookEndpoint, counts: CountsWriter, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.webhooks, self.counts = webhooks, counts
        self._others = behind_proxies(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"] == PATH or scope["path"].startswith(f"{PATH}/")):
            await self.webhooks(scope, receive, send)
        else:
            await self._others(scope, receive, send)


def create_app(settings: Settings, *, metrics_on: socket.socket | None = None) -> Waylink:
    """The web application for these settings. Nothing is connected before the lifespan starts.

    metrics_on: a bound socket on which `/metrics` is served without a token.
    """
    database = connect(settings.database, statement_seconds=STATEMENT_SECONDS)
    broker = Broker.at("internal", settings.broker)
    window = timedelta(seconds=settings.dedupe_window_seconds)
    hints = Hints(broker)
    traces = traces_of(settings, "web")
    spans = traces.webhooks if traces is not None else None
    store = GroupCommit(writers_for(database, window, utc_now), Announcer(hints), spans=spans)
    pulse = pulse_of(store)
    counts = CountsWriter(database, pulse.kind, utc_now)
    answering, canaries = Answering(pulse, store), Canaries(database, store, settings.canary_every, utc_now)
    also = (counts.write, FigureRecorder(database, utc_now).record, canaries.begin)
    signs = SignsOfLife(Reporter(database, pulse, also), settings.data_dir, notifying(settings, look_of(settings)))
    record = IngestRecord(database, settings.environments, utc_now, store)
    webhooks = WebhookEndpoint(settings.environments, store, record, BodyReader(settings.body_limit_bytes), utc_now)
    api = _api(settings, hints)
    health = HealthEndpoints(database, broker, store)
    budget = budget_of(settings)
    shown = Exposition(database, broker, policy_of(settings), budget.bucket, utc_now, lambda: counts.identity)
    metrics = MetricsEndpoint(api.authenticator, shown.render, open_metrics=settings.open_metrics)
    console = _console(settings, api)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if (away := require_current_unless_away(database)) is not None:
            log.error("database_away", problem=away, then="webhooks are held as long as may be, until it is back")
        store.start()
        record.start()
        answering.start()
        canaries.start()
        signs.start()
        STORING.set_function(lambda: float(store.storing))
        log.info("web_started", environments=sorted(settings.environments), database=database.engine.dialect.name)
        try:
            async with serving_metrics(metrics, metrics_on):
                yield
        finally:
            answering.stop()
            canaries.stop()
            if store.storing:  # what is stored at the end is in the last counts
                await store.stop()
            await asyncio.gather(store.stop(), asyncio.to_thread(signs.stop))
            await record.stop()
            _close(webhooks, metrics, budget, console, api, broker, database)
            if traces is not None:
                await asyncio.to_thread(traces.close)

    app = Waylink(
        webhooks,
        counts,
        routes=[
            Route("/healthz", health.healthz),
            Route("/readyz", health.readyz),
            Route("/metrics", metrics.metrics),
            *api.routes(),
            *console.routes(),
            Mount("/static", VersionedFiles()),
        ],
        exception_handlers={HTTPException: _http_problem, Exception: _fault},
        lifespan=lifespan,
    )
    app.state.console = console
    # Nango follows a redirect with a GET and never retries one (Nango contract: Delivery and retries): a slash too many
    # must not cause it.
    app.router.redirect_slashes = False
    return app


class _Closes(Protocol):
    def close(self) -> None: ...


def _close(*parts: _Closes) -> None:
    for part in parts:
        part.close()


def _api(settings: Settings, hints: Hints) -> Api:
    """The API, with database pools of its own, so that webhooks never wait for its connections.

    Callers are looked up, and the status is read, within LOOK_SECONDS for a statement: a database that stands still is
    told soon.
    """
    looks = connect(settings.database, pool_size=LOOKS, statement_seconds=LOOK_SECONDS)
    context = Context(
        database=connect(settings.database),
        policy=policy_of(settings),
        clients=clients_of(settings),
        clock=utc_now,
        hints=hints,
        means=definition_context(settings),
        installation=partial(running, settings),
        settings=effective(settings, unknown=unknown_variables(settings.file_path)),
        status_database=looks,
        tester=tester_of(settings),
    )
    browsers = Browsers(settings.console_url)
    authenticator = Authenticator(looks, context.clock, browsers, lives_of(settings))
    return Api(context, ENDPOINTS, _hosts(settings), authenticator)


def _console(settings: Settings, api: Api) -> Console:
    """The console, on the API's database pool and with its authentication."""
    context = ConsoleContext(
        api=api.context,
        database=api.context.database,
        clock=utc_now,
        authenticator=api.authenticator,
        provider=provider_of(settings),
        groups=[entry.rights_of_group for entry in settings.file.operators.groups],
        installation=partial(running, settings),
    )
    return Console(context, PAGES, _hosts(settings))


def _hosts(settings: Settings) -> frozenset[str]:
    """The Host names of the API and the console."""
    listed = [name for name in settings.allowed_hosts.split(",") if name.strip()]
    if settings.console_url is not None:
        listed.append(urlsplit(settings.console_url).netloc)
    return allowed_hosts(listed, listening_on=settings.host)


async def _http_problem(_request: Request, raised: Exception) -> Response:
    assert isinstance(raised, HTTPException)  # noqa: S101 - Starlette calls it for this class only
    detail = "There is nothing here of that path and method."
    return problem(raised.status_code, raised.detail, detail, headers=raised.headers)


async def _fault(_request: Request, raised: Exception) -> Response:
    log.error("fault", exc_info=raised)
    return problem(500, "A fault of ours", "It is logged. Try again; if it stays, look at the log of the web process.")
