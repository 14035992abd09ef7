"""The HTTP server as `waylink web` runs it: uvicorn, with bounds for clients that never finish what they began.

uvicorn itself waits without end for a request's head, for the rest of a body that was refused, and for a client that
does not read its answer; and it bounds no head. Here a sweep, once a second, looks at every connection, so that no
request pays for a timer.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.telemetry import CONNECTIONS_CLOSED, get_logger

HEAD_SECONDS: Final = 12.0  # from connecting to a request's whole head
KEEP_ALIVE_SECONDS: Final = 30  # from an answer to the next request's whole head
REQUEST_SECONDS: Final = 60.0  # from a head to its whole answer; webhooks are answered within 20 s
MAX_OVERHEAD_BYTES: Final = 32 * 1024  # of a request without its body: head, chunk sizes, trailers
BACKLOG: Final = 2048  # connections the kernel keeps until they are accepted
GRACE_SECONDS: Final = 17  # for requests under way at the end: longer than any is held
STOP_SECONDS: Final = 22  # for everything at the end; then the process goes, whatever it waits for
MIN_OPEN_FILES: Final = 12_000  # 10,000 connections, and what we need ourselves
_SAME_WARNING_SECONDS: Final = 10.0

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain\r\ncontent-length: 18\r\nconnection: close\r\n\r\nHeaders too large\n"
)

log = get_logger(__name__)


class Connection(HttpToolsProtocol):
    """One client's connection. uvicorn takes the class by its option `http`; the methods are those of the parser."""

    # Slots, because three more attributes would give every connection a slower dictionary of its own.
    __slots__ = ("_overhead", "_seen", "_since")

    def connection_made(self, transport: object) -> None:
        self._overhead, self._seen, self._since = 0, (None, True), self.loop.time()
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        HttpToolsProtocol.data_received(self, data)  # `super()` in these three was measured to cost 1 µs a request
        if self._overhead > MAX_OVERHEAD_BYTES and not self.transport.is_closing():
            CONNECTIONS_CLOSED.labels("head_too_large").inc()
            if self.cycle is None or self.cycle.response_complete:  # else an answer may be half written
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        HttpToolsProtocol.on_message_complete(self)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whoever has sent a whole request and closed only that direction still gets its answer."""
        if self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
        return True  # the transport is ours to close

    def send_400_response(self, msg: str) -> None:
        CONNECTIONS_CLOSED.labels("malformed").inc()
        super().send_400_response(msg)

    def close_if_overdue(self, now: float) -> None:
        """The sweep. Whoever has completed a head or got an answer since the last one begins anew."""
        cycle: Any = self.cycle  # None before the first whole head
        waiting = cycle is None or cycle.response_complete
        if self._seen != (cycle, waiting):
            self._seen, self._since = (cycle, waiting), now
        if cycle is None:
            cause, patience = "no_request", HEAD_SECONDS
        elif waiting:
            cause, patience = "idle", float(KEEP_ALIVE_SECONDS)
        else:
            cause, patience = "stuck", REQUEST_SECONDS
        if now - self._since > patience:
            CONNECTIONS_CLOSED.labels(cause).inc()
            self.transport.abort()


class _Joined:
    """A transport that writes once in a turn of the loop.

    uvicorn writes an answer's head and body apart, and each write is a system call, a packet and a turn of the client.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending and not self._transport.is_closing():
            self._transport.write(b"".join(pending))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Server(uvicorn.Server):
    """uvicorn's server with the sweep, and with an end that does not wait for ever."""

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the application looks at them where it needs them
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        logging.getLogger("uvicorn.error").addFilter(_SELDOM)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # ten ticks a second
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.close_if_overdue(now)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            # A commit or a look at a frozen database cannot be interrupted, and its thread would keep the process.
            signal.signal(signal.SIGALRM, _leave)
            signal.alarm(STOP_SECONDS)
        super().handle_exit(sig, frame)


def serve(app: ASGIApp, *, host: str, port: int, listener: socket.socket | None = None) -> None:
    """Serve until a signal, on `listener` if there is one. Only in a process's main thread."""
    limit = raise_file_limit()
    if limit < MIN_OPEN_FILES:
        then = "further connections have to wait: raise the hard limit of open files (ulimit -Hn)"
        log.warning("few_open_files", limit=limit, wanted=MIN_OPEN_FILES, then=then)
    _favour_throughput()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn repeats the signal that it ended by
        Server(app, host=host, port=port).run(sockets=[listener] if listener else None)


def _favour_throughput() -> None:
    """Settings of the interpreter for a process that does one thing, measured at a tenth of a webhook's cost."""
    # What is loaded by now stays; and a request leaves no cycles behind.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # A commit's or a publisher's thread takes Python's lock back many times, and the loop is always busy.
    sys.setswitchinterval(0.0005)


def raise_file_limit() -> int:
    """Let this process open as many files as it may; that number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, MIN_OPEN_FILES) if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):  # macOS has another limit below an unlimited one
        return soft
    return wanted


def _leave(_number: int, _frame: FrameType | None) -> None:
    log.error("stop_took_too_long", seconds=STOP_SECONDS, then="what was not answered is not stored for certain")
    os._exit(1)


class _Seldom(logging.Filter):
    """One of equal warnings in ten seconds: anybody can cause uvicorn's, as often as they like."""

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
