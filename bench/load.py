"""A load generator that is lighter than what it measures: prepared requests over raw keep-alive sockets.

`python -m bench.load PORT COUNT CONNECTIONS SECONDS` signs COUNT unique webhooks and posts them in a closed loop, for
SECONDS at most. It prints one JSON object: how many were answered and in how many seconds, latencies in milliseconds,
how many answers were of which status, and the processor time that the generator itself took.
"""

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Final

import uvloop

from app.domain.signature import sign

KEY: Final = "bench-signing-key"
PATH: Final = "/webhooks/nango"


def body(connection_id: str, *, operation: str = "creation", tags: dict[str, str] | None = None) -> bytes:
    """An auth webhook of about 400 bytes, as Nango serialises it."""
    owner = {
        "end_user_email": f"user-{connection_id[:6]}@acme.example",
        "end_user_id": f"usr-{connection_id[:6]}",
        "organization_id": f"org-{connection_id[:2]}",
        "plan": "pro",
        "region": "eu-west-1",
    }
    facts = {
        "authMode": "OAUTH2",
        "connectionId": connection_id,
        "environment": "prod",
        "from": "nango",
        "operation": operation,
        "provider": "google-mail",
        "providerConfigKey": "google-mail",
        "success": True,
        "tags": owner if tags is None else tags,
        "type": "auth",
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def request(connection_id: str, *, path: str = PATH) -> bytes:
    """One signed creation webhook of about 730 bytes in all."""
    content = body(connection_id)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"User-Agent: nango/0.71.4 (linux; node.js/22)\r\nX-Nango-Hmac-Sha256: {sign(content, KEY)}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class _Client(asyncio.Protocol):
    """One keep-alive connection: sends the next request when the answer is there."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], statuses: Counter[bytes]) -> None:
        self._requests, self._latencies, self._statuses = requests, latencies, statuses
        self._received, self._waits = b"", False
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def start(self) -> None:
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if len(rest) < int(length or 0):
            return
        self._received, self._waits = b"", False
        self._latencies.append(time.perf_counter() - self._sent)
        self._statuses[head[9:12]] += 1
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        self._statuses[b"lost"] += self._waits
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        following = next(self._requests, None)
        if following is None:
            self._transport.close()
            return
        self._sent, self._waits = time.perf_counter(), True
        self._transport.write(following)


async def run(port: int, requests: Iterable[bytes], connections: int, seconds: float) -> dict[str, object]:
    """Post all requests, or as many as go within `seconds`."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: Counter[bytes] = Counter()
    todo = takewhile(lambda _: time.perf_counter() - started < seconds, requests)
    clients = [
        (await loop.create_connection(lambda: _Client(todo, latencies, statuses), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    cpu, started = time.process_time(), time.perf_counter()
    for client in clients:
        client.start()
    await asyncio.gather(*(client.done for client in clients))
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {
        "answered": len(latencies),
        "seconds": took,
        **percentiles(latencies),
        "statuses": {status.decode(): count for status, count in statuses.items() if count},
        "cpu_seconds": cpu,
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """`p50_ms` and `p99_ms`; NaN of nothing."""
    ordered = sorted(seconds) or [float("nan")]
    return {f"p{share}_ms": ordered[len(ordered) * share // 100] * 1000 for share in (50, 99)}


def main() -> None:
    port, count, connections = (int(argument) for argument in sys.argv[1:4])
    requests = [request(str(uuid.uuid4())) for _ in range(count)]
    print(json.dumps(uvloop.run(run(port, requests, connections, float(sys.argv[4])))))


if __name__ == "__main__":
    main()
