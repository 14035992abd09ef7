"""A client's HTTP/1.1 connection: a request, its answer's head and the beginning of its body.

The parser is llhttp, Node's. A request is written in one piece; an answer that came in one piece costs one wake-up.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from app.errors import Unreachable
from app.outbound.failure import Failure
from app.telemetry import escape_control

MAX_HEAD: Final = 64 * 1024  # bytes of an answer's head, with those of interim answers
EXCERPT: Final = 1024  # bytes of a body that are kept
DRAINED: Final = 64 * 1024  # bytes of a body that are read, so that its connection can be used again
MAX_READ: Final = MAX_HEAD + DRAINED  # bytes of an answer in all, as chunk framing and trailers have no bound either
UNSENT: Final = 64 * 1024  # bytes of a request that the system's buffers take at once
_SWITCHING: Final = 101  # final, while other statuses below 200 are interim


class HungUp(Exception):
    """The connection ended before the answer's head did."""


@dataclass(slots=True)
class Response:
    """An answer. `headers` by lower-case name; of several with one name the last."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    excerpt: bytearray = field(default_factory=bytearray)
    length: int = 0  # bytes of the body received
    has_head: bool = False
    ended: bool = False


class HttpConnection(asyncio.Protocol):
    """Takes one request after the other, never two at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._response: Response | None = None  # to the request in flight
        self._asked = 0  # bytes of that request
        self._received = 0  # bytes received since that request
        self._waiter: asyncio.Future[None] | None = None
        self._problem: Exception | None = None
        self.is_open = True  # False: it takes no further request, and stays so

    # For the sender

    async def ask(self, request: bytes, *, until: float) -> Response:
        """Write a request and wait for the head of its answer, until `until` by the loop's clock.

        Raises HungUp, TimeoutError, Unreachable; the connection cannot be used after them.
        """
        response = self._response = Response()
        self._asked, self._received = len(request), 0
        # A timer costs a third of asyncio.timeout, which cancels the task.
        timer = asyncio.get_running_loop().call_at(until, self._end, TimeoutError())
        try:
            if self._transport is not None and self.is_open:
                self._transport.write(request)
            while not response.has_head:
                if self._problem is not None:
                    raise self._problem
                await self._change()
        except BaseException:
            self.abort()
            self._problem = None  # its traceback holds this frame, and the request with it
            raise
        finally:
            timer.cancel()
        return response

    async def finish(self, response: Response, *, until: float) -> None:
        """Wait for the end of the body, for DRAINED bytes of it, or until `until`."""
        timer = asyncio.get_running_loop().call_at(until, self._end)
        try:
            while not response.ended:
                await self._change()
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()

    def rest(self) -> None:
        """End an exchange. The connection is closed where it cannot be used again.

        That is after an answer that was not read to its end, or if the peer may have left a part of the request unread:
        it could take that part, or the next request, for the other.
        """
        response = self._response
        if response is not None and not (response.ended and self._is_sent(response)):
            self.abort()
        self._response = None

    def abort(self) -> None:
        """Close at once, as a peer that does not complete the TLS shutdown must not delay the caller."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def _is_sent(self, response: Response) -> bool:
        if self._transport is not None and self._transport.get_write_buffer_size():
            return False
        # TLS hides the buffer below it. A peer that accepts has read all; one that refuses a long request may not have.
        return self._asked <= UNSENT or 200 <= response.status < 300

    async def _change(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclass

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self._end(Unreachable(Failure.INVALID, "its answer is not HTTP: it came before the request"))
            return
        if response.ended:  # data without a request
            self.abort()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._end()
        except HttpParserError as wrong:
            self._end(Unreachable(Failure.INVALID, f"its answer is not HTTP: {escape_control(str(wrong))[:200]}"))
        if not response.has_head and self._received > MAX_HEAD:
            self._end(Unreachable(Failure.INVALID, f"its answer is not HTTP: no end of its head in {MAX_HEAD} bytes"))
        if (response.length > DRAINED or self._received > MAX_READ) and not response.ended:
            self._end()
        self._wake()

    def eof_received(self) -> None:
        self._end(HungUp())  # the transport would wait until the peer has read the whole request

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(HungUp())  # after a head, the end of a body without a length

    def _end(self, problem: Exception | None = None) -> None:
        """Nothing more is read from this connection; `problem` is raised by `ask` where no head came."""
        self.abort()
        self._problem = self._problem or problem
        if self._response is not None:
            self._response.ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        if self._response is not None and self._response.ended:
            self.is_open = False  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None and not self._response.has_head:  # trailers are ignored
            self._response.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._response is None or self._response.has_head:
            return
        if 100 <= status < 200 and status != _SWITCHING:
            self._response.headers.clear()
            return
        self._response.status, self._response.has_head = status, True

    def on_body(self, data: bytes) -> None:
        if self._response is not None and not self._response.ended:
            self._response.excerpt += data[: EXCERPT - len(self._response.excerpt)]
            self._response.length += len(data)

    def on_message_complete(self) -> None:
        if self._response is not None and self._response.has_head:
            self._response.ended = True
            self.is_open = self.is_open and self._parser.should_keep_alive()
