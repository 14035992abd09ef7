"""A team's HTTP endpoint on loopback, as good or bad as a test wants it; and a resolver that tests fill."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes
    connection: int  # the how-manieth of this endpoint


@dataclass
class Endpoint:
    """`act(request, writer)` answers or not; the connection is kept if it returns True."""

    act: object = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    writers: list = field(default_factory=list)
    tasks: list = field(default_factory=list)

    async def _serve(self, reader, writer):
        self.connections += 1
        number = self.connections
        self.writers.append(writer)
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                request = Request(head[0], headers, body, number)
                self.requests.append(request)
                if not await (self.act or fine)(request, writer):
                    break
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def hang_up_all(self):
        for writer in self.writers:
            writer.close()


async def fine(request, writer):
    return await answer(writer, 200, b"thanks")


async def answer(writer, status, body=b"", **headers):
    head = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    await writer.drain()
    return True


@asynccontextmanager
async def endpoint(act=None, *, tls=None):
    """Serves on 127.0.0.1 within the running loop."""
    made = Endpoint(act)
    async with serving(made._serve, tls=tls) as made.port:
        yield made


@asynccontextmanager
async def serving(handle, *, tls=None):
    """The port of a server that treats each connection so; when it ends, no connection is left."""
    writers, tasks = [], []

    async def remember(reader, writer):
        writers.append(writer)
        tasks.append(asyncio.current_task())
        await handle(reader, writer)

    server = await asyncio.start_server(remember, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)  # one that was accepted a moment ago begins
        for task in tasks:
            task.cancel()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, *(writer.wait_closed() for writer in writers), return_exceptions=True)


class DefinedNames:
    """A resolver: name to the answers of successive questions, the last one again and again."""

    def __init__(self, **answers):
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append(host)
        if host not in self.answers:
            raise OSError(-2, "Name or service not known")
        given = self.answers[host]
        return given.pop(0) if len(given) > 1 else given[0]
