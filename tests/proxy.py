"""A TCP proxy that stands before a server of the tests and fails as networks and middleboxes do.

It closes a connection only when a test asks for it: a peer that waits behind a silent proxy learns of nothing,
and its kernel has everything acknowledged.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.ports import free_port

_CHUNK: Final = 65536
_LINGER: Final = struct.pack("ii", 1, 0)  # closing drops what is unsent and sends a reset


class Proxy:
    """Listens on a loopback port of its own and passes on to `port`. `close` it; methods may be called at any time."""

    def __init__(self, port: int, *, host: str = "127.0.0.1") -> None:
        self.target = host, port
        self.port = free_port()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._passing = asyncio.Event()
        self._passing.set()
        self._passes_ends = True
        self._kept_back = 0  # connections and pieces of data
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._call(self._listen)

    def stop_passing(self) -> None:
        """A black hole: connections stay and new ones are taken, but nothing arrives, not even an end. What was sent
        meanwhile goes on its way with `resume`.
        """
        self._call(self._stop)

    def abandon(self) -> None:
        """The same for good for the connections of now: not even `resume` lets them pass anything. New ones do."""
        self._call(self._abandon)

    def keep_open(self) -> None:
        """Pass no end of a connection on to its other side from now on, until `resume`."""
        self._passes_ends = False

    def resume(self) -> None:
        """Take connections, and pass."""
        self._call(self._resume)

    def reset(self) -> None:
        """End every connection by a reset, to both sides. New ones are taken."""
        self._call(self._reset)

    def refuse(self) -> None:
        """Take no connection any more; those of now stay. `resume` listens again, at the same port."""
        self._call(self._refuse)

    def keeps_back(self) -> bool:
        """Whether a new connection or data has come that may not pass."""
        return self._kept_back > 0

    def connections(self) -> int:
        """The number of open connections, the abandoned ones among them."""
        return len(self._connections)

    def close(self) -> None:
        self._call(self._refuse)
        self._call(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, what: Callable[[], object]) -> None:
        async def on_the_loop() -> None:
            if asyncio.iscoroutine(done := what()):
                await done

        asyncio.run_coroutine_threadsafe(on_the_loop(), self._loop).result(10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._take, "127.0.0.1", self.port, backlog=1000)

    def _stop(self) -> None:
        self._passing.clear()

    async def _resume(self) -> None:
        self._passes_ends = True
        self._passing.set()
        if self._listener is None:
            await self._listen()

    def _abandon(self) -> None:
        self._passing.set()  # of those to come
        self._passing, abandoned = asyncio.Event(), self._passing
        abandoned.clear()
        self._passing.set()

    def _reset(self) -> None:
        for task, writers in list(self._connections.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()

    def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _end(self) -> None:
        tasks = list(self._connections)
        self._reset()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, passing = asyncio.current_task(), self._passing
        assert task is not None
        ends = self._connections[task] = [writer]
        try:
            await self._may_pass(passing)
            there, back = await asyncio.open_connection(*self.target)
            ends.append(back)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(reader, back, passing))
                ways.create_task(self._pass_on(there, writer, passing))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in ends:
                end.close()
            del self._connections[task]

    async def _may_pass(self, passing: asyncio.Event) -> None:
        self._kept_back += 1
        try:
            await passing.wait()
        finally:
            self._kept_back -= 1

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        """Copy until one side ends, then end the other side."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._may_pass(passing)
                writer.write(data)
                await writer.drain()
        await passing.wait()
        if not self._passes_ends:
            await asyncio.Event().wait()
        raise ConnectionResetError  # both ways end


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    writer.transport.abort()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """A proxy before the server at that loopback port."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
