"""Teams' HTTP endpoints, cheaper than what is measured: `python -m bench.endpoint PORT --well PORT … --hanging PORT …`.

Those that are well answer every POST with 204 at once; those that hang take connections and never answer. On the first
port it reports arrivals, as JSON: `GET /` gives `{"<port>": {"requests", "jobs", "first_at", "last_at"}}`, and
`GET /arrivals` gives the first arrival of each job (`webhook-id`); times are unix seconds.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import uvloop

ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(slots=True)
class Arrivals:
    """Requests that arrived at one port. Times are in unix seconds."""

    requests: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    jobs: dict[str, float] = field(default_factory=dict)

    def note(self, job: str, now: float) -> None:
        self.requests += 1
        self.first_at = self.first_at or now
        self.last_at = now
        self.jobs.setdefault(job, now)

    def counts(self) -> dict[str, Any]:
        return {"requests": self.requests, "jobs": len(self.jobs), "first_at": self.first_at, "last_at": self.last_at}


class Answering(asyncio.Protocol):
    """One connection: whatever is whole is counted and answered; requests come one after the other."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals, self._received = arrivals, bytearray()

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        if len(self._received) < end + 4 + int(_value(head, b"content-length") or 0):
            return
        self._received.clear()
        self._arrivals.note(_value(head, b"webhook-id").decode("latin-1"), time.time())
        self._transport.write(ANSWER)


class Reporting(asyncio.Protocol):
    """The port that reports the arrivals."""

    def __init__(self, arrivals: dict[int, Arrivals]) -> None:
        self._arrivals = arrivals

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        ask = "jobs" if data.startswith(b"GET /arrivals ") else None
        counts = {port: arrivals.jobs if ask else arrivals.counts() for port, arrivals in self._arrivals.items()}
        body = json.dumps(counts).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        self._transport.close()


def _value(head: bytes, name: bytes) -> bytes:
    """A header's value, of a head in lower case; empty without it."""
    start = head.find(b"\r\n" + name + b":")
    return head[start + len(name) + 3 :].partition(b"\r\n")[0].strip() if start >= 0 else b""


async def serve(port: int, well: Sequence[int], hanging: Sequence[int]) -> None:
    loop = asyncio.get_running_loop()
    arrivals = {port: Arrivals() for port in well}
    servers = [await loop.create_server(lambda: Reporting(arrivals), "127.0.0.1", port)]
    for team_port in well:
        servers.append(
            await loop.create_server(partial(Answering, arrivals[team_port]), "127.0.0.1", team_port, backlog=1024)
        )
    for team_port in hanging:
        servers.append(await loop.create_server(asyncio.Protocol, "127.0.0.1", team_port, backlog=1024))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.endpoint", description="HTTP endpoints that answer at once.")
    parser.add_argument("port", type=int)
    parser.add_argument("--well", type=int, nargs="*", default=[])
    parser.add_argument("--hanging", type=int, nargs="*", default=[])
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.well, options.hanging))


if __name__ == "__main__":
    main()
