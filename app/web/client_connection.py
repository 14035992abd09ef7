"""A client's connection, with bounds on incomplete requests, unread answers and idle time.

uvicorn itself waits without limit for a request's head, for the rest of a refused body, and for a client that does not
read its answer; and it bounds no head. Here the server's sweep checks every connection once a second, so that no
request pays for a timer.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.telemetry import CONNECTIONS_CLOSED

HEAD_SECONDS: Final = 12.0  # from connecting to a request's whole head
KEEP_ALIVE_SECONDS: Final = 30  # from an answer to the next request's whole head
REQUEST_SECONDS: Final = 60.0  # from a head to its whole answer; webhooks are answered within 20 s
MAX_QUEUED: Final = 16  # requests of a connection behind the one that is being answered
MAX_QUEUED_BYTES: Final = 32 * 1024 * 1024  # held for queued requests, of all connections of a process
QUEUED_COST: Final = 8 * 1024  # bytes of memory per queued request, besides its received bytes
MAX_OVERHEAD_BYTES: Final = 32 * 1024  # of a request without its body: head, chunk sizes, trailers
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain\r\ncontent-length: 18\r\nconnection: close\r\n\r\nHeaders too large\n"
)


class QueueingState(ServerState):
    """The server's state, with the memory that its connections hold for queued requests."""

    queued_bytes = 0


class ClientConnection(HttpToolsProtocol):
    """A client's connection. uvicorn takes the class by its option `http`; the methods are those of the parser."""

    # Slots: nine more attributes would give every connection a slower dictionary of its own.
    __slots__ = ("_ended_well", "_full", "_has_left", "_joined", "_overhead", "_queued", "_seen", "_since", "_socket")
    server_state: QueueingState

    def connection_made(self, transport: object) -> None:
        self._overhead, self._seen, self._since = 0, self._state()[1], self.loop.time()
        self._queued, self._full = 0, False
        self._has_left = False  # the client closed its direction before the answer
        self._ended_well: bool | None = None  # set at the end: whether all answers were written
        self._socket: Any = transport
        self._joined = _CoalescingTransport(transport, self.loop)
        super().connection_made(self._joined)  # type: ignore[arg-type]

    @property
    def is_open(self) -> bool:
        return not self._socket.is_closing()

    def written(self) -> bool | None:
        """Whether all answers so far were written completely to an open connection; None: not known yet.

        A client that closes its direction before the answer counts as gone: this is what Nango's time-out looks like.
        """
        if self._has_left:
            return False
        self._joined.flush()
        if self._socket.is_closing():
            return self._ended_well
        return True if self._socket.get_write_buffer_size() == 0 else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended_well = exc is None
        self._hold(0)
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._full:
            return
        self._overhead += len(data)
        HttpToolsProtocol.data_received(self, data)  # `super()` in these three was measured to cost 1 µs a request
        if self._overhead > MAX_OVERHEAD_BYTES and not self.transport.is_closing():
            CONNECTIONS_CLOSED.labels("head_too_large").inc()
            if self.cycle is None or self.cycle.response_complete:  # else an answer may be half written
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        if self.pipeline:
            self._hold(self._queued + len(data))
            if self.server_state.queued_bytes > MAX_QUEUED_BYTES:
                CONNECTIONS_CLOSED.labels("queues_full").inc()
                self._full = True
                self._hold(0)
                self.pipeline.clear()
                self.transport.close()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_QUEUED:
            self._stop_reading()
        if not self._full:
            HttpToolsProtocol.on_headers_complete(self)
            if self.pipeline:
                self._hold(self._queued + QUEUED_COST)

    def on_body(self, body: bytes) -> None:
        self._overhead -= len(body)
        if not self._full:
            HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        if not self._full:
            HttpToolsProtocol.on_message_complete(self)

    def on_response_complete(self) -> None:
        """Start the next queued request. The socket is read again only when none is queued."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()
        else:
            self._hold(0)

    def _hold(self, queued: int) -> None:
        """Record the memory of queued requests, in bytes."""
        self.server_state.queued_bytes += queued - self._queued
        self._queued = queued

    def _stop_reading(self) -> None:
        """Answer the queued requests, then close: the client sends the others again."""
        if not self._full:
            CONNECTIONS_CLOSED.labels("queue_full").inc()
            self._full = True
            self.pipeline[0][0].keep_alive = False  # the newest

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer a complete request whose client closed only its own direction."""
        if self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False
            self._has_left = True
        return True  # this class closes the transport itself

    def send_400_response(self, msg: str) -> None:
        CONNECTIONS_CLOSED.labels("malformed").inc()
        super().send_400_response(msg)

    def close_if_overdue(self, now: float) -> None:
        """Called by the sweep. A complete head or answer since the last call restarts the time."""
        cause, mark = self._state()
        if self._seen != mark:
            self._seen, self._since = mark, now
        patience = {"no_request": HEAD_SECONDS, "idle": float(KEEP_ALIVE_SECONDS), "stuck": REQUEST_SECONDS}[cause]
        if now - self._since > patience:
            CONNECTIONS_CLOSED.labels(cause).inc()
            self.transport.abort()

    def _state(self) -> tuple[str, object]:
        """The label to close the connection under, and a mark that changes with every head and every answer."""
        cycle: Any = self.cycle  # None before the first whole head
        waiting = cycle is None or cycle.response_complete
        return "no_request" if cycle is None else "idle" if waiting else "stuck", (cycle, waiting)


class _CoalescingTransport:
    """A transport that joins the writes of one turn of the event loop.

    uvicorn writes an answer's head and body separately, and each write is a system call, a packet and a wake-up of the
    client.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pending: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append(data)

    def write_at_once(self, data: bytes) -> None:
        self.flush()
        self._transport.write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        pending, self._pending = self._pending, []
        if pending and not self._transport.is_closing():
            self._transport.write(b"".join(pending))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
