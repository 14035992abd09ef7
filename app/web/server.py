"""The HTTP server of `waylink web`: uvicorn, with bounds on slow and stalled clients.

`connection` has the bounds of a connection; the sweep that checks all of them once a second is here.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from app.runtime.file_limit import MIN_OPEN_FILES, raise_file_limit
from app.runtime.interpreter import collect_rarely
from app.telemetry import get_logger
from app.web.client_connection import KEEP_ALIVE_SECONDS, ClientConnection, QueueingState
from app.web.fast_path import WebhookConnection

BACKLOG: Final = 2048  # connections the kernel keeps until they are accepted
GRACE_SECONDS: Final = 17  # for requests in flight at the end: longer than any is held
STOP_SECONDS: Final = 22  # for the whole shutdown; then the process exits regardless
_SAME_WARNING_SECONDS: Final = 10.0

log = get_logger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server with the sweep, and with a bounded shutdown."""

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=WebhookConnection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the application reads them itself
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self.server_state = QueueingState()
        logging.getLogger("uvicorn.error").addFilter(_SELDOM)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # ten ticks a second
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, ClientConnection):
                    connection.close_if_overdue(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            # A commit or query at a frozen database cannot be interrupted, and its thread would keep the process.
            signal.signal(signal.SIGALRM, _leave)
            signal.alarm(STOP_SECONDS)
        super().handle_exit(sig, frame)


def serve(app: ASGIApp, *, host: str, port: int, listener: socket.socket | None = None) -> None:
    """Serve until a signal, on `listener` if given. Only in a process's main thread."""
    limit = raise_file_limit()
    if limit < MIN_OPEN_FILES:
        then = "further connections have to wait: raise the hard limit of open files (ulimit -Hn)"
        log.warning("few_open_files", limit=limit, wanted=MIN_OPEN_FILES, then=then)
    _favour_throughput()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn repeats the signal that ended it
        Server(app, host=host, port=port).run(sockets=[listener] if listener else None)


def _favour_throughput() -> None:
    """Set up the interpreter for a process of one task, measured at a tenth of a webhook's cost."""
    collect_rarely()
    # A commit's or publisher's thread reacquires Python's lock many times, and the loop is always busy.
    sys.setswitchinterval(0.0005)


def _leave(_number: int, _frame: FrameType | None) -> None:
    log.error("stop_took_too_long", seconds=STOP_SECONDS, then="what was not answered is not stored for certain")
    os._exit(1)


class _Seldom(logging.Filter):
    """Passes one of equal warnings in ten seconds: clients can cause uvicorn's as often as they like."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        if record.created - self._last.get(record.msg, 0.0) < _SAME_WARNING_SECONDS:
            return False
        self._last[record.msg] = record.created
        return True


_SELDOM: Final = _Seldom()
