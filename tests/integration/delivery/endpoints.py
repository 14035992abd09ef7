"""Teams' HTTP endpoints on loopback: one server in a thread, which answers by the path that is asked for.

`/200` and any other status answer so, `/hang` not before it is let go, `/together/N` once N requests are there.
"""

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.waiting import PATIENCE


@dataclass
class Call:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def job(self):
        return json.loads(self.body)


@dataclass
class Endpoints:
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)  # of all answers
    statuses: dict[str, int] = field(default_factory=dict)  # of a path, instead of what it says
    waiting: dict[str, int] = field(default_factory=dict)  # calls of a path that are not answered yet
    most: dict[str, int] = field(default_factory=dict)
    _loop: asyncio.AbstractEventLoop | None = None
    _free: asyncio.Event | None = None
    _ended: asyncio.Event | None = None

    def of(self, path):
        return [call for call in self.calls if call.path == path]

    def let_go(self):
        self._loop.call_soon_threadsafe(self._free.set)

    def forget(self):
        """As if it had just begun."""
        self._loop.call_soon_threadsafe(self._free.clear)
        for kept in (self.calls, self.headers, self.statuses, self.most):
            kept.clear()

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                path = head[0].split(" ")[1]
                self.calls.append(Call(path, headers, body))
                await self._answer(path, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, path, writer):
        self.waiting[path] = self.waiting.get(path, 0) + 1
        self.most[path] = max(self.waiting[path], self.most.get(path, 0))
        try:
            if path.startswith("/hang"):
                await self._free.wait()
            while path.startswith("/together/") and self.most[path] < int(path.split("/")[2]):
                await asyncio.sleep(0.005)
        finally:
            self.waiting[path] -= 1
        named = path[1:4]
        status = self.statuses.get(path, int(named) if named.isdigit() else 200)
        body = b"" if status == 204 else f"this is {status}".encode()
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body)
        await writer.drain()


@contextmanager
def endpoints():
    made, ready = Endpoints(), threading.Event()

    async def main():
        made._loop, made._free = asyncio.get_running_loop(), asyncio.Event()
        made._ended = asyncio.Event()
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=1024)
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await made._ended.wait()
        made._free.set()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(made._ended.set)
        thread.join(PATIENCE)
