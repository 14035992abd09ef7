"""The server of `/metrics` on an address of its own (WAYLINK_METRICS_ADDRESS), beside that of the web process."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

from starlette.applications import Starlette
from starlette.routing import Route

from app.web.metrics import MetricsEndpoint
from app.web.server import Server


class MetricsServer(Server):
    """Runs in the event loop of the web process's server, which takes the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving_metrics(metrics: MetricsEndpoint, listener: socket.socket | None) -> AsyncIterator[None]:
    """Serve the metrics on a bound socket while the block runs; do nothing without one."""
    if listener is None:
        yield
        return
    server = MetricsServer(Starlette(routes=[Route("/metrics", metrics.open)]))
    running = asyncio.create_task(server.serve(sockets=[listener]), name="metrics")
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([running], timeout=2.0)
        running.cancel()
