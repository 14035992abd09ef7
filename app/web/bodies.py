"""Reading of a request's body, bounded in size, time, and the memory of all unverified bodies."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Receive

READ_SECONDS: Final = 12.0  # for the whole body; Nango gives up after 20 s
MAX_UNVERIFIED_BYTES: Final = 64 * 1024 * 1024  # of all requests whose signature is not verified yet


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than 202; `cause` is its label in metrics and logs."""

    status: int
    cause: str
    title: str
    detail: str


class Refused(Exception):
    def __init__(self, status: int, cause: str, title: str, detail: str) -> None:
        super().__init__(cause)
        self.refusal = Refusal(status, cause, title, detail)


class ClientGone(Exception):
    """The client closed its connection before its body had arrived; there is no answer to send."""


@dataclass(slots=True)
class BodyReader:
    """Reads bodies of up to `limit` bytes."""

    limit: int
    _unverified: int = field(default=0, init=False)
    _reading: dict[asyncio.Task[Any], float] = field(default_factory=dict, init=False)  # deadlines; oldest first
    _held: dict[asyncio.Task[Any], int] = field(default_factory=dict, init=False)  # bytes of partial bodies
    _sweep: asyncio.Task[None] | None = field(default=None, init=False)

    async def read(self, receive: Receive, *, declared: bytes = b"") -> bytes:
        """The whole body. declared: its Content-Length. Raises Refused or ClientGone."""
        if declared.isdigit() and int(declared) > self.limit:
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every coroutine runs in one
        self._reading[task] = asyncio.get_running_loop().time() + READ_SECONDS
        if self._sweep is None:
            self._sweep = asyncio.create_task(self._end_slow_reads())
        try:
            message = await receive()
            if message.get("more_body", False) or message["type"] == "http.disconnect":
                return await self._read_on(message, receive, task)
            body: bytes = message.get("body", b"")
            if len(body) > self.limit:
                raise self._too_large()
            return body  # already complete, and verified before the loop runs another task
        except asyncio.CancelledError:
            if task in self._reading:
                raise
            task.uncancel()  # cancelled by _end
            raise Refused(503, "slow_body", "Too slow", "The body did not arrive in time. Send it again.") from None
        finally:
            self._reading.pop(task, None)

    async def _read_on(self, message: Any, receive: Receive, task: asyncio.Task[Any]) -> bytes:
        """A body of several parts, which take memory while they arrive."""
        chunks: list[bytes] = []
        self._held[task] = 0
        try:
            while message["type"] != "http.disconnect":
                chunk = message.get("body", b"")
                chunks.append(chunk)
                self._held[task] += len(chunk)
                self._unverified += len(chunk)
                if self._held[task] > self.limit:
                    raise self._too_large()
                self._make_room(task)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                message = await receive()
            raise ClientGone
        finally:
            self._forget(task)

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Count the memory of a complete body that waits for its verification. Raises Refused."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - every coroutine runs in one
        self._held[task] = size
        self._unverified += size
        try:
            self._make_room(task)
            yield
        finally:
            self._forget(task)

    def _make_room(self, task: asyncio.Task[Any]) -> None:
        """End the oldest reads while all bodies together are too large.

        Stalled clients would otherwise have later requests refused; a genuine body arrives within moments.
        """
        while self._unverified > MAX_UNVERIFIED_BYTES:
            oldest = next((other for other in self._held if other is not task and other in self._reading), None)
            if oldest is None:
                raise Refused(503, "overload", "Busy", "Too many requests are being read. Send it again.")
            self._forget(oldest)
            self._end(oldest)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._unverified -= self._held.pop(task, 0)

    def _end(self, task: asyncio.Task[Any]) -> None:
        del self._reading[task]
        task.cancel()

    async def _end_slow_reads(self) -> None:
        """Check all reads once a second: a timer per request was measured at a tenth of a request's cost."""
        while self._reading:
            await asyncio.sleep(1.0)
            now = asyncio.get_running_loop().time()
            for task in [task for task, give_up_at in self._reading.items() if now >= give_up_at]:
                self._end(task)
        self._sweep = None

    def _too_large(self) -> Refused:
        detail = f"A webhook body may have {self.limit} bytes (WAYLINK_BODY_LIMIT_BYTES)."
        return Refused(413, "too_large", "Body too large", detail)
