"""Requests that begin when they are due, however slow the answers are.

A closed loop waits for an answer before it asks again, and so measures nothing while a server stalls (coordinated
omission). Here every request has its time, and as many connections are opened as are needed to keep it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.signature import HEADER, sign

ANSWER_WITHIN: Final = 20.0  # seconds, as Nango waits (Nango contract: Delivery and retries)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


def signed_request(body: bytes, *, path: str, key: str) -> bytes:
    """A webhook as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{HEADER}: {sign(body, key)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def on_schedule(times: Sequence[float], begin: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Begin number i at `times[i]`, on the loop's clock and in order; returns when all of them have ended."""
    loop = asyncio.get_running_loop()
    begun = []
    for number, due in enumerate(times):
        if (early := due - loop.time()) > 0:
            await asyncio.sleep(early)
        begun.append(loop.create_task(begin(number)))
    await asyncio.gather(*begun)


@dataclass(slots=True)
class Sender:
    """Keep-alive connections to a port of this machine, one more whenever all are waiting for an answer."""

    port: int
    _idle: list["_Socket"] = field(default_factory=list, init=False)

    async def post(self, request: bytes) -> Answer:
        """Raises OSError when no server listens or the connection breaks, TimeoutError after ANSWER_WITHIN."""
        async with asyncio.timeout(ANSWER_WITHIN):
            socket = await self._socket()
            try:
                answer = await socket.ask(request)
            except BaseException:
                socket.close()
                raise
        self._idle.append(socket)
        return answer

    def close(self) -> None:
        for socket in self._idle:
            socket.close()
        self._idle.clear()

    async def _socket(self) -> "_Socket":
        while self._idle:
            if (socket := self._idle.pop()).alive:
                return socket
        return (await asyncio.get_running_loop().create_connection(_Socket, "127.0.0.1", self.port))[1]


class _Socket(asyncio.Protocol):
    """One connection with at most one request on its way."""

    def __init__(self) -> None:
        self.alive = False
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport, self.alive = transport, True

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        self._answer = asyncio.get_running_loop().create_future()
        if self.alive:
            self._transport.write(request)
        else:
            self._answer.set_exception(ConnectionResetError())
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0)
        if len(rest) >= length:
            self._received = rest[length:]
            if self._answer and not self._answer.done():
                self._answer.set_result(Answer(int(head[9:12]), rest[:length]))

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(error if isinstance(error, OSError) else ConnectionResetError())

    def close(self) -> None:
        self._transport.close()
